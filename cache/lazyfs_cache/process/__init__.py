"""One process's part in a cache that several processes share."""
