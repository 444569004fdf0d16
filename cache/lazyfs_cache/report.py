"""What a cache says about itself."""

import msgspec


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the cache. Bytes unless a name says otherwise; the counters are this process's own."""

    state: str
    """"on", "off: why" or "rebuilding"."""
    limit: int
    charged: int
    """What the cache counts as occupied: never less than `du` says."""
    pinned: int
    reserved: int
    """Held for values on their way here."""
    index: int
    entries: int
    hits: int
    misses: int
    admitted: int
    refused: int
    """Values that were not admitted: no space that may be freed, lock not had in time, or the disk failed."""
    damaged: int
    """Values found wrong by their checksums, evicted and answered as not here."""
    evictions: int
    """By all processes, since the index was made."""
