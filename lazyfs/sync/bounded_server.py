"""An HTTP server for many senders of small messages. The number of connections is bounded, in all and for
each sender's network, and each has a deadline.

Each connection has a thread, and brings one request. Deadlines count from the beginning of the connection. A
request's head has a short one: whoever has not shown that he may send anything takes no room for longer.
"""

import ssl
from http.server import BaseHTTPRequestHandler
from time import monotonic
from typing import Any

from lazyfs.sync.open_connections import OpenConnections
from lazyfs.system.listening_server import ListeningServer

MOST_CONNECTIONS = 32
MOST_OF_A_NETWORK = 16
"""The largest number of connections of one network at a time: one sender cannot keep all others out. Half of
all, because many workers of a site may have one address."""
SECONDS = 20.0
"""Deadline of one connection in seconds, from its beginning to the end of the answer."""
HEAD_SECONDS = 5.0
"""Deadline of a request's head in seconds, the handshake of TLS included."""


class BoundedHandler(BaseHTTPRequestHandler):
    """Answers the one request of a connection to a BoundedServer."""

    server: "BoundedServer"
    protocol_version = "HTTP/1.1"
    server_version = "lazyfs"
    sys_version = ""

    def parse_request(self) -> bool:
        """Parses a request's head; then the connection has the time that it may have in all."""
        parsed: bool = super().parse_request()
        if parsed:
            self.server.head_read(self.connection)
        return parsed


class BoundedServer(ListeningServer):
    """A listening server that has a thread and deadlines for each connection, and can use TLS."""

    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BoundedHandler],
        *,
        seconds: float = SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listens at once (port 0: any free port). `seconds`: the deadline of each connection. Raises
        UsageError if the address is not available."""
        self._seconds = seconds
        self._head_seconds = min(HEAD_SECONDS, seconds)
        self._tls = tls
        self._connections = OpenConnections(MOST_CONNECTIONS, MOST_OF_A_NETWORK)
        super().__init__(address, handler, scheme="https" if tls else "http")

    def head_read(self, connection: Any) -> None:
        """Notes that the head of a connection's request has been read."""
        self._connections.extend(connection, self._seconds - self._head_seconds)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread that answers a connection. Closes the connection at once if there are too many, or
        if no thread can be started."""
        deadline = monotonic() + self._head_seconds
        if not self._connections.add(request, str(client_address[0]), deadline):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the machine has no thread to spare: as if all were in use
            self.shutdown_request(request)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection, after the handshake if TLS is used. Raises OSError for a client that goes
        away."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        secured = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        try:
            self._connections.replace(request, secured)
            secured.do_handshake()  # here, in the connection's thread: a silent client holds up itself alone
            super().finish_request(secured, client_address)
        finally:
            self.shutdown_request(secured)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection, and makes room for another one. Called at the end of each, whatever has
        failed."""
        self._connections.remove(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Ends the connections that are late. Called after each connection, and several times a second."""
        self._connections.end_late(monotonic())
