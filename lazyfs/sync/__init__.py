"""The service: publishes the images that wishlists ask for from their registries; each image fails alone."""
