"""One module for each family of file formats; `files.FORMATS` lists them by suffix."""
