"""The shares of a daemon's memory, as parts of what it may have in all."""

from typing import Final, NamedTuple

from lazyfs.client import allowance
from lazyfs.vfs import shared_files

TIGHT: Final = 0.75
"""The part of its memory from which on a daemon gives kept things back."""
EASY: Final = 0.55
"""The part below which it keeps more again."""
_LEAST_CATALOGS: Final = 4 << 20


class Budget(NamedTuple):
    """Bytes, and rows, that each kind of kept thing may take."""

    catalogs: int
    chunk_lists: int
    answers: int
    """Of those packed for the kernel."""
    shared_files: int
    """Rows."""
    under_way: int
    """Plaintext bytes of objects on their way, of which each takes up to three times its size."""


def budget(limit: int, kept: float = 1.0) -> Budget:
    """Returns the shares of `limit` bytes. `kept`: the part of the catalogs and answers that there is room
    for."""
    return Budget(
        max(_LEAST_CATALOGS, int(limit * 0.32 * kept)),
        max(_LEAST_CATALOGS // 4, int(limit * 0.027 * kept)),
        int(limit * 0.107 * kept),
        min(shared_files.MOST * 4, int(limit * 0.13) // 1024),
        min(allowance.MOST, limit // 10),
    )


def kept_part(kept: float, used: float) -> float:
    """Returns the part of catalogs and answers to keep from now on. `kept`: the part until now; `used`: the
    part of its memory that the daemon takes."""
    if used > TIGHT:
        return kept / 2 if kept > 1 / 64 else 0.0
    if used < EASY:
        return min(1.0, max(kept * 1.25, 1 / 32))
    return kept
