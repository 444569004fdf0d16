"""Divides a daemon's memory limit among the kinds of things that it keeps in memory."""

from typing import Final, NamedTuple

from lazyfs.client import allowance
from lazyfs.vfs import shared_files

TIGHT: Final = 0.75
"""If a daemon uses more than this share of its memory limit, it drops parsed catalogs and kept answers."""
EASY: Final = 0.55
"""If a daemon uses less than this share of its memory limit, it may keep more catalogs and answers again."""
_LEAST_CATALOGS: Final = 4 << 20
_PROGRAM: Final = 40 << 20
"""What the interpreter and the modules of a daemon take. With a tenth of the whole limit for objects under
way, a daemon with 100 MiB took 85 to 107 under many readers."""
_LEAST_UNDER_WAY: Final = 2 << 20


class Budget(NamedTuple):
    """The limits, in bytes unless stated otherwise, of the kinds of things that a daemon keeps in memory."""

    catalogs: int
    chunk_lists: int
    answers: int
    """The limit of the answers that are kept in the kernel's format, to be given again."""
    shared_files: int
    """The largest number of rows in the table of files that images share."""
    under_way: int
    """The limit of the objects under way, by the estimates of `client.stored_sizes`. In memory they take up
    to three times as much."""


def budget(limit: int, kept: float = 1.0) -> Budget:
    """Returns the shares of `limit` bytes. `kept`: a factor (0 to 1) for the shares of catalogs and
    answers."""
    return Budget(
        max(_LEAST_CATALOGS, int(limit * 0.32 * kept)),
        max(_LEAST_CATALOGS // 4, int(limit * 0.027 * kept)),
        int(limit * 0.107 * kept),
        min(shared_files.MOST * 4, int(limit * 0.13) // 1024),
        min(allowance.MOST, limit // 10, max(_LEAST_UNDER_WAY, (limit - _PROGRAM) // 8)),
    )


def kept_part(kept: float, used: float) -> float:
    """Returns the next factor for `budget`. `kept`: the present factor; `used`: the share of its memory limit
    that the daemon uses."""
    if used > TIGHT:
        return kept / 2 if kept > 1 / 64 else 0.0
    if used < EASY:
        return min(1.0, max(kept * 1.25, 1 / 32))
    return kept
