"""Webhooks of registries: the pushes that they report, and the proof of their sender."""
