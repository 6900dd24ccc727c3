"""One module per family of file formats; `files.FORMATS` lists them by suffix."""
