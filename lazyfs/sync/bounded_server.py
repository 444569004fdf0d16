"""An HTTP server for many senders of small messages. The number of connections is bounded, and each has a
deadline.

Each connection has a thread. The deadline counts from the beginning of the connection.
"""

import socket
import ssl
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from lazyfs.system.listening_server import ListeningServer

MOST_CONNECTIONS = 32
SECONDS = 20.0
"""Deadline of one connection in seconds, from its beginning to the end of the answer."""


class BoundedServer(ListeningServer):
    """A listening server that has a thread and a deadline for each connection, and can use TLS."""

    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        *,
        most: int = MOST_CONNECTIONS,
        seconds: float = SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listens at once (port 0: any free port). `most`: the largest number of connections at a time.
        `seconds`: the deadline of each connection. Raises UsageError if the address is not available."""
        self.seconds = seconds
        self._tls = tls
        self._free = threading.BoundedSemaphore(most)
        super().__init__(address, handler, scheme="https" if tls else "http")

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread that answers a connection within its deadline. If all threads are in use, closes
        the connection at once."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers a connection within its deadline."""
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        end = threading.Timer(self.seconds, _shut, [request])
        end.daemon = True
        end.start()
        try:
            if self._tls is not None:
                try:  # here, not where connections are accepted: a silent client holds up itself alone
                    request.do_handshake()
                except OSError:
                    self.shutdown_request(request)
                    return
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._free.release()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
