"""Container registries: a client of the distribution API that copes with registries' faults and limits."""
