"""The open connections of a server. Their number is bounded, in all and for each sender's network, and each
has a deadline."""

import socket
import threading
from contextlib import suppress
from typing import NamedTuple

from lazyfs.sync.sender_networks import is_loopback, network_of


class _Open(NamedTuple):
    network: str
    deadline: float


class OpenConnections:
    """The open connections of one server. Thread-safe. All times are seconds of one clock."""

    def __init__(self, most: int, most_of_a_network: int) -> None:
        """`most`: the largest number of connections. `most_of_a_network`: that of one network's; loopback
        addresses have no such bound, because all connections of a web server on this machine have one of
        them."""
        self._most = most
        self._most_of_a_network = most_of_a_network
        self._mutex = threading.Lock()
        self._open: dict[socket.socket, _Open] = {}

    def add(self, connection: socket.socket, address: str, deadline: float) -> bool:
        """Adds a connection; returns False, and adds nothing, if there are too many. `address`: the
        sender's."""
        network = network_of(address)
        with self._mutex:
            of_network = sum(one.network == network for one in self._open.values())
            bound = self._most if is_loopback(address) else self._most_of_a_network
            if len(self._open) >= self._most or of_network >= bound:
                return False
            self._open[connection] = _Open(network, deadline)
            return True

    def replace(self, connection: socket.socket, by: socket.socket) -> None:
        """Notes that a connection goes on as another object."""
        with self._mutex:
            self._open[by] = self._open.pop(connection)

    def extend(self, connection: socket.socket, seconds: float) -> None:
        """Moves the deadline of a connection by some seconds."""
        with self._mutex:
            if found := self._open.get(connection):
                self._open[connection] = found._replace(deadline=found.deadline + seconds)

    def remove(self, connection: socket.socket) -> None:
        """Forgets a connection; does nothing if it is not there."""
        with self._mutex:
            self._open.pop(connection, None)

    def end_late(self, now: float) -> None:
        """Shuts the connections that are past their deadlines, so that no thread reads or writes them any
        more. A thread that answers one ends by itself, and removes it."""
        with self._mutex:
            for connection, one in self._open.items():
                if one.deadline < now:
                    with suppress(OSError):
                        # the socket's own: that of SSLSocket drops the encryption under a thread that writes
                        socket.socket.shutdown(connection, socket.SHUT_RDWR)
