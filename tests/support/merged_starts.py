"""Starts of one program, merged all at once."""

from collections.abc import Callable, Iterable, Sequence

from lazyfs.core.digest import Digest
from lazyfs.core.start_reports.merge import Voices


def merged(starts: Iterable[Sequence[Digest]], size_of: Callable[[Digest], int]) -> list[Digest]:
    """Returns the objects that are kept of these starts, given as the objects that each touched. `size_of`
    returns the bytes of an object."""
    voices = Voices()
    for items in starts:
        voices.count(items, sum(map(size_of, set(items))))
    return voices.kept(size_of)
