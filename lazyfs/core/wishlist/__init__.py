"""Wishlists in the formats of the field: each lists the images that a service is to publish."""
