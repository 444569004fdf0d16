"""The service: what wishlists ask for, in the registries, and in the tree; each image fails alone."""
