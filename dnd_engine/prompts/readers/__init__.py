"""One module per family of file formats; `prompts.files.FORMATS` lists them by suffix."""
