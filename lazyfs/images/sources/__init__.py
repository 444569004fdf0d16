"""Sources of images and trees: each streams its layers once."""
