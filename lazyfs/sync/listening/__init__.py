"""Webhooks in: registries tell of pushes, and what was pushed and is wished is published at once."""
