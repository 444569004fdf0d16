"""Webhooks in: registries tell of pushes, and pushed images that are wished are published at once."""
