"""Container registries: the distribution API as a client that survives what registries do."""
