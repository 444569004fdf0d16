"""The files and bytes of stores in which images share layers, or files, or nearly all of a layer."""
