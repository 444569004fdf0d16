"""The service: publishes the images that wishlists name, read from their registries. A failure of one image
does not affect the others."""
