"""The number of files and bytes in stores of images that share layers, files, or most of a layer."""
