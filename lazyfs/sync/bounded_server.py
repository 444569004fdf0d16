"""An HTTP server for many senders of small messages: bounded connections, each with a deadline.

Each connection has a thread, and there are at most `most` of them. A connection has to end within a deadline
that counts from its beginning.
"""

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from lazyfs.core.errors import UsageError

MOST_CONNECTIONS = 32
SECONDS = 20.0
"""Deadline of one connection in seconds, from its beginning to the end of the answer."""


class BoundedServer(ThreadingHTTPServer):
    """Listens, and gives each connection a thread, a deadline and, if asked to, TLS."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        handler: Callable[..., BaseHTTPRequestHandler],
        *,
        most: int = MOST_CONNECTIONS,
        seconds: float = SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listens at once (port 0: any free port). Raises UsageError if the address is not available."""
        self.seconds = seconds
        self._tls = tls
        self._free = threading.BoundedSemaphore(most)
        host, port = address
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__(address, handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen on {host} port {port}: {error}") from None

    def server_bind(self) -> None:
        """Binds like TCPServer. HTTPServer would look up the host's name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    @property
    def url(self) -> str:
        """The URL of the server; the senders' paths begin below it."""
        scheme = "https" if self._tls else "http"
        host, port = self.server_address[:2]
        return f"{scheme}://[{host!s}]:{port}" if ":" in str(host) else f"{scheme}://{host!s}:{port}"

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Answers requests in a thread until the block ends."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection a thread and a deadline; closes a connection for which none is free."""
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

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores the error if a client goes away: that is no error of the server."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
