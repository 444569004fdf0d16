"""One process's part in a cache that several processes share: its locks, the space it holds, the ways in and
out. `shared_index` is in the middle: it opens every transaction."""
