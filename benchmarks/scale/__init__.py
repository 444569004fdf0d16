"""The cost that a large repository has for a mount: 10,000 images and 10 million files, of which one image is
entered."""
