"""The service: publishes the images of wishlists, which it reads from their registries; each image fails
alone."""
