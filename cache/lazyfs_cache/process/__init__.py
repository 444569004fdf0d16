"""One process's part in a cache that several processes share: its locks, its held space, admission and
eviction. `shared_index` is the centre: it opens every transaction."""
