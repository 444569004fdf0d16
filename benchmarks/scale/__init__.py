"""The cost of a large repository for a mount: 10,000 images and 10 million files; one image is entered."""
