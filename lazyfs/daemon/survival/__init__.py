"""A mount that outlives its daemon: the keeper, the successor, and the state that they hand over."""
