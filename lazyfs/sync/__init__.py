"""The service: reads the images that wishlists name from their registries, and publishes them. A failure of
one image does not affect the others."""
