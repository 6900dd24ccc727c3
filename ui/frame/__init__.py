"""The page around the tabs: header, keys, language."""
