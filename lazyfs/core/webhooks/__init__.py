"""Webhooks of registries: the pushes that they tell of, and the proof of their sender."""
