"""A delaying TCP relay: one shared bottleneck with a round-trip time, and counts of its traffic."""
