"""Counts of an origin's requests and sent bytes."""

import threading
from collections import Counter
from http import HTTPStatus
from typing import NamedTuple

KINDS = ("data", "metadata")
_OTHER = "other"
"""The counters' name for a path in neither data/ nor metadata/."""


class Served(NamedTuple):
    """One answered request."""

    method: str
    path: str
    status: int
    sent: int
    """Body bytes."""


class Counters:
    """Counts of requests and sent bytes; safe to read at any time."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._bytes: Counter[str] = Counter()
        self._paths: Counter[str] = Counter()

    def add(self, served: Served) -> None:
        with self._mutex:
            kind = _kind(served.path)
            self._requests[kind, served.status] += 1
            self._bytes[kind] += served.sent
            # missing names are not counted: their number has no bound
            if served.status < HTTPStatus.BAD_REQUEST:
                self._paths[served.path] += 1

    def lost(self, path: str, count: int) -> None:
        """Subtracts `count` body bytes of the file at `path`, which `add` has counted but which could not be
        sent."""
        with self._mutex:
            self._bytes[_kind(path)] -= count

    def requests(self, kind: str | None = None, status: int | None = None) -> int:
        """Returns the number of requests. `kind`: count only those for `data` or for `metadata`. `status`:
        count only those with this status."""
        with self._mutex:
            return sum(
                count
                for (own, code), count in self._requests.items()
                if kind in (None, own) and status in (None, code)
            )

    def bytes(self, kind: str | None = None) -> int:
        """Returns the number of body bytes sent. `kind`: count only those of `data` or of `metadata`."""
        with self._mutex:
            return sum(count for own, count in self._bytes.items() if kind in (None, own))

    def paths(self) -> dict[str, int]:
        """Returns a map from each existing path that was asked for, relative to the store, to the number of
        requests for it."""
        with self._mutex:
            return dict(self._paths)


def _kind(path: str) -> str:
    kind = path.split("/")[0]
    return kind if kind in KINDS else _OTHER
