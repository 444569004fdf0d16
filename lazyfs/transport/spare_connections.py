"""TCP connections that are opened before a request needs them: the request then waits a round trip less.

A mount first fetches few objects at a time, each named by the one before, and then many side by side. Without
spare connections, each step up waits until its connections are made.
"""

import errno
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from lazyfs.transport.connect import Address

MOST: Final = 32
"""The largest number of spare connections of a client."""
SECONDS: Final = 5.0
"""The age, in seconds, from which on a spare connection is not used: the request for which it was opened has
not come, and the server may be about to close the connection."""


class _Spare(NamedTuple):
    address: Address
    socket: socket.socket
    opened: float
    """The time on time.monotonic()'s clock."""


class SpareConnections:
    """Connections to proxies or origins, each for one request to come. Thread-safe; never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spares: list[_Spare] = []
        self._closed = False

    def open(self, addresses: Sequence[Address], count: int) -> None:
        """Begins to connect until `count` connections to a machine are spare. `addresses`: those of the
        machine; as by libcurl, one of IPv6 is preferred. A connection that fails is dropped without a word:
        the request that would have used it makes its own, and fails with the reason."""
        with self._lock:
            self._drop_old()
            for address in sorted(addresses, key=lambda address: address[0] != socket.AF_INET6):
                there = sum(spare.address == address for spare in self._spares)
                wanted = min(count - there, MOST - len(self._spares))
                if self._closed or all(self._connect(address) for _ in range(wanted)):
                    return

    def _connect(self, address: Address) -> bool:
        family, place = address
        try:
            connecting = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            return False  # the node has no descriptors left
        connecting.setblocking(False)
        if connecting.connect_ex(place) not in (0, errno.EINPROGRESS):  # the node has no IPv6, for example
            connecting.close()
            return False
        self._spares.append(_Spare(address, connecting, time.monotonic()))
        return True

    def take(self, address: Address) -> socket.socket | None:
        """Returns a socket that is connected to `address` and belongs to the caller from then on; None if no
        spare connection to this address is ready."""
        if not self._spares:
            return None
        with self._lock:
            self._drop_old()
            for spare in [spare for spare in self._spares if spare.address == address]:
                events = _events(spare.socket)
                if events == 0:
                    continue  # still connecting
                self._spares.remove(spare)
                if events == select.POLLOUT:
                    return spare.socket
                spare.socket.close()  # it failed, or the server has closed it
        return None

    def close(self) -> None:
        """Closes all spare connections, and opens no more."""
        with self._lock:
            self._closed = True
            for spare in self._spares:
                spare.socket.close()
            self._spares.clear()

    def close_old(self) -> None:
        """Closes the spare connections that nobody took in time."""
        if self._spares:
            with self._lock:
                self._drop_old()

    def _drop_old(self) -> None:
        """Closes old connections; the caller holds the lock. The list has the oldest first."""
        oldest = time.monotonic() - SECONDS
        while self._spares and self._spares[0].opened < oldest:
            self._spares.pop(0).socket.close()


def _events(connection: socket.socket) -> int:
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLOUT)
    return next((events for _, events in poll.poll(0)), 0)
