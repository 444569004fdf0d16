"""Incoming webhooks: registries report pushes, and the pushed images that are wished are published at
once."""
