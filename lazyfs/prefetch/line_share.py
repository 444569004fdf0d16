"""The largest share of a mount's network line that fetching ahead may take. What is left of the line is
always free for readers."""

import math
from collections.abc import Callable
from typing import Final

from lazyfs.client.allowance import MOST, Allowance
from lazyfs.client.objects import THREADS

DEFAULT: Final = 75
"""The default for the largest share, in percent, of a mount's line that fetching ahead may take: the share of
the requests that the mount may have under way, and of the bytes."""


class LineShare:
    """The bounds on what all repositories of one mount fetch ahead together. Belongs to one trio run."""

    def __init__(self, percent: int = DEFAULT, all_bytes: Callable[[], int] = lambda: MOST) -> None:
        """`percent`: the largest share for fetching ahead, 1 to 90. `all_bytes` returns the bytes that
        the mount may have under way, for readers and ahead of them, by the estimates of `Objects.size_of`."""
        self._percent = percent
        self._all_bytes = all_bytes
        self._allowance = Allowance(self.bytes)
        self.requests = max(1, THREADS * percent // 100)
        """The largest number of requests of one repository that are under way without a reader."""

    @property
    def bytes(self) -> int:
        """The largest number of bytes under way without a reader."""
        return self._all_bytes() * self._percent // 100

    @property
    def allowance(self) -> Allowance:
        """The bound on the bytes that all repositories together have under way without a reader."""
        self._allowance.most = self.bytes
        return self._allowance

    def of(self, most: int) -> int:
        """Returns the number of requests that may be under way for a kind of prefetching that uses at most
        `most` of them. It is `most` with the default share or a larger one, less in proportion with a smaller
        one, and at least one."""
        return max(1, min(most, math.ceil(most * self._percent / DEFAULT)))
