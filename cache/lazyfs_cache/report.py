"""A cache's figures about itself."""

import msgspec


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a cache. Bytes unless a name states another unit; the counts from `hits` to `damaged` are
    this process's own."""

    state: str
    """"on", "rebuilding" (the index is being made anew), or "off: " and the reason."""
    directory: str = ""
    limit: int = 0
    policy: str = ""
    """Order of eviction: "lru" or "sieve"."""
    charged: int = 0
    """Bytes that the cache counts as occupied: never less than `du` says."""
    pinned: int = 0
    reserved: int = 0
    """Bytes held for values on their way here."""
    index: int = 0
    """Bytes that the index occupies, part of `charged`."""
    entries: int = 0
    hits: int = 0
    misses: int = 0
    read_bytes: int = 0
    """Bytes of values handed out."""
    admitted: int = 0
    refused: int = 0
    """Values not admitted, because no space may be freed, the index lock could not be taken in time, or the
    disk failed."""
    damaged: int = 0
    """Values found wrong by their checksums, evicted, and answered as not here."""
    evictions: int = 0
    """Evictions by all processes since the index was made."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """Findings of `Cache.verify`; each is repaired."""

    values: int
    """Values that are right."""
    bytes: int
    damaged: int
    """Values whose checksums failed."""
    orphans: int
    """Files without an entry in the index."""
    missing: int
    """Entries of the index without a file."""
