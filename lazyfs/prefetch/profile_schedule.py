"""The time to fetch a profile, and the choice of its objects. Pure: the caller passes the time and the
sizes."""

import math
from collections import Counter
from typing import Final

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.profile import counted

AGAIN: Final = 60.0
"""Seconds until a profile that was not fetched completely may be tried again, when its image is entered. They
double with each try."""
TRIES: Final = 4
"""The number of tries of one start after which it is not begun again. Each try of a list that nobody uses
fetches 2 MB."""
PROFILES: Final = 4
"""The largest number of profiles under way at one time: `ls -l` looks up each image of a folder and starts
none of them."""
REMEMBERED: Final = 1 << 14
"""The largest number of starts that are remembered, some 5 MB; the one that was begun longest ago is
forgotten, and may be begun again. Each program name that a user gives to `lazyfs run` is another start."""
FAILURES: Final = 3
"""The number of failed objects of one profile after which no more of its objects are requested."""
HERE: Final = 0.75
"""The share of a hot pack's bytes that must be in the cache already (another image may have brought them) for
the pack to be left out."""
SHARE: Final = 0.5
"""The largest share of the cache's limit that a profile may take: a larger profile would push out objects in
use."""

Start = tuple[Digest, str]
"""A profile, and the path or name of the program that is started (empty if it is not known)."""


class ProfileSchedule:
    """The profiles of a repository that are under way, or must not be begun for some time."""

    def __init__(self) -> None:
        self._rests: dict[Start, float] = {}
        """The time before which each start must not be begun. It is infinity while the start is under way,
        and once all its objects have come."""
        self._under_way: set[Start] = set()
        self._failed: Counter[Start] = Counter()
        """The number of times that each start was not fetched completely."""

    def begin(self, start: Start, now: float) -> bool:
        """Returns True if the objects that the profile lists for this start are to be fetched now, and counts
        them as under way."""
        if now < self._rests.get(start, 0) or len(self._under_way) >= PROFILES:
            return False
        self._rests.pop(start, None)  # it is the latest now
        self._rests[start] = math.inf
        self._under_way.add(start)
        if len(self._rests) > REMEMBERED:
            oldest = next(one for one in self._rests if one not in self._under_way)
            del self._rests[oldest], self._failed[oldest]
        return True

    def ended(self, start: Start) -> None:
        """Notes that the objects of this start are no longer under way."""
        self._under_way.discard(start)

    def failed(self, start: Start, now: float) -> None:
        """Notes that some objects of this start were not fetched: it may be begun again some time later, but
        not more than TRIES times in all."""
        self._failed[start] += 1
        tries = self._failed[start]
        self._rests[start] = now + AGAIN * 2 ** (tries - 1) if tries < TRIES else math.inf


def fits(listed: list[ObjectRef], cache_limit: int) -> bool:
    """Returns True if a profile that lists these objects fits a cache of `cache_limit` bytes."""
    return sum(counted(ref.size) for ref in listed) <= cache_limit * SHARE
