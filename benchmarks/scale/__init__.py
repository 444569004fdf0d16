"""The cost of a large repository for a mount: the repository has 10,000 images and 10 million files, and a
program enters one image."""
