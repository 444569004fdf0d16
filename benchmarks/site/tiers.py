"""Origin and proxies on the simulated clock: queues with measured service times, and what each proxy holds.

An answer's time is known when the request comes, since nothing that comes later overtakes it.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from benchmarks.site.images import Object
from benchmarks.site.starts import Service


class Settings(NamedTuple):
    """The lines of a site. Times in seconds, lines in bytes a second."""

    squid: Service
    nginx: Service
    lan: float = 0.0005
    """Round trip from a node to a proxy."""
    wan: float = 0.02
    """Round trip from the site to the origin."""
    node_line: float = 125e6
    proxy_line: float = 1250e6
    origin_line: float = 1250e6
    node_cache: int = 25_000_000_000
    proxy_cache: int = 100_000_000_000


class Answer(NamedTuple):
    """The times of an answer's first and last byte."""

    first: float
    end: float
    from_cache: bool


class Server:
    """A queue: requests are served one after the other, each as long as the slower of processor and line
    takes."""

    def __init__(self, service: Service, line: float) -> None:
        self._service = service
        self._line = line
        self._free_at = 0.0
        self.requests = 0
        self.bytes = 0
        self.busy = 0.0

    def serve(self, now: float, requests: int, size: int) -> tuple[float, float]:
        """Takes requests that come at `now`. Returns the times at which the first and the last answer are
        sent."""
        each = max(self._service.request * requests + self._service.byte * size, size / self._line)
        begin = max(now, self._free_at)
        self._free_at = begin + each
        self.requests += requests
        self.bytes += size
        self.busy += each
        return begin + each / requests, begin + each

    def seconds(self, now: float, requests: int, size: int) -> float:
        """Returns the seconds until the last of some requests that come now would be answered."""
        each = max(self._service.request * requests + self._service.byte * size, size / self._line)
        return max(self._free_at - now, 0.0) + each


class Origin(Server):
    """The origin; counts the requests of each object."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.nginx, settings.origin_line)
        self.seen: dict[str, int] = {}

    def get(self, now: float, one: Object) -> tuple[float, float]:
        self.seen[one.path] = self.seen.get(one.path, 0) + 1
        return self.serve(now, 1, one.stored)


class Proxy(Server):
    """A squid that collapses equal requests. It is killed at the times of `lost`, each an interval, and comes
    back empty."""

    def __init__(
        self, url: str, settings: Settings, origin: Origin, lost: tuple[tuple[float, float], ...] = ()
    ) -> None:
        super().__init__(settings.squid, settings.proxy_line)
        self.url = url
        self.lost = lost
        self._settings = settings
        self._origin = origin
        self._held: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Path -> the time from which the object is here, and its size."""
        self._used = 0
        self._losses = 0
        self._whole: set[Hashable] = set()
        """Parts of units all of whose objects are here."""
        self.hits = 0

    def down(self, now: float) -> bool:
        """Returns True while the proxy is not running; empties the cache of one that was killed."""
        ended = sum(begin <= now for begin, _ in self.lost)
        if ended > self._losses:
            self._losses = ended
            self._held.clear()
            self._whole.clear()
            self._used = 0
        return any(begin <= now < end for begin, end in self.lost)

    def dies_within(self, begin: float, end: float) -> float | None:
        """Returns the time of a kill between these times; None if there is none."""
        return next((at for at, _ in self.lost if begin < at <= end), None)

    def holds(self, now: float, part: Hashable, objects: list[Object]) -> bool:
        """Returns True if all objects of a part of a unit are here. `part` stands for these objects."""
        if self.down(now):
            return False
        if part in self._whole:
            return True
        held = self._held
        if all((known := held.get(one.path)) is not None and known[0] <= now for one in objects):
            self._whole.add(part)
            return True
        return False

    def bulk(self, now: float, objects: list[Object], size: int) -> tuple[float, float]:
        """Answers requests for objects that are here."""
        self.hits += len(objects)
        return self.serve(now, len(objects), size)

    def get(self, now: float, one: Object) -> Answer:
        """Answers one request: from the cache, or from the origin. A request for an object that is on its way
        waits for it and goes to nobody."""
        first, end = self.serve(now, 1, one.stored)
        known = self._held.get(one.path)
        if known is None:
            begun, ended = self._origin.get(now + self._settings.wan / 2, one)
            arrives = ended + self._settings.wan / 2
            self._admit(one, arrives)
            return Answer(max(first, begun + self._settings.wan / 2), max(end, arrives), False)
        self._held.move_to_end(one.path)
        if known[0] <= now:
            self.hits += 1
        return Answer(max(first, known[0]), max(end, known[0]), known[0] <= now)

    def _admit(self, one: Object, at: float) -> None:
        self._held[one.path] = (at, one.stored)
        self._used += one.stored
        while self._used > self._settings.proxy_cache:
            self._used -= self._held.popitem(last=False)[1][1]
            self._whole.clear()
