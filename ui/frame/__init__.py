"""The page around the tabs: header, keyboard shortcuts, language."""
