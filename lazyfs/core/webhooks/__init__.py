"""Webhooks: what registries tell of pushes, and the proof that it was they who told it."""
