"""A delaying TCP relay: one shared bottleneck with a round-trip time, and counts of what went over it."""
