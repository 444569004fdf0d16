"""Wishlists: which images a service is to publish, in the formats of the field."""
