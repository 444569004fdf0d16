"""The open connections of a server. Their number is bounded, and each has a deadline."""

import socket
import threading
from contextlib import suppress


class OpenConnections:
    """The open connections of one server. Thread-safe. All times are seconds of one clock."""

    def __init__(self, most: int) -> None:
        """`most`: the largest number of connections."""
        self._most = most
        self._mutex = threading.Lock()
        self._open: dict[socket.socket, float] = {}

    def add(self, connection: socket.socket, deadline: float) -> bool:
        """Adds a connection; returns False, and adds nothing, if there are too many."""
        with self._mutex:
            if len(self._open) >= self._most:
                return False
            self._open[connection] = deadline
            return True

    def replace(self, connection: socket.socket, by: socket.socket) -> None:
        """Notes that a connection goes on as another object."""
        with self._mutex:
            self._open[by] = self._open.pop(connection)

    def remove(self, connection: socket.socket) -> None:
        """Forgets a connection; does nothing if it is not there."""
        with self._mutex:
            self._open.pop(connection, None)

    def end_late(self, now: float) -> None:
        """Shuts the connections that are past their deadlines, so that no thread reads or writes them any
        more. A thread that answers one ends by itself, and removes it."""
        with self._mutex:
            for connection, deadline in self._open.items():
                if deadline < now:
                    with suppress(OSError):
                        # the socket's own: that of SSLSocket drops the encryption under a thread that writes
                        socket.socket.shutdown(connection, socket.SHUT_RDWR)
