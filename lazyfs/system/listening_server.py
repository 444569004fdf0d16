"""The common part of our HTTP servers: one thread for each connection, and a context manager that serves
while its block runs."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from lazyfs.core.digits import natural
from lazyfs.core.errors import UsageError


class ListeningServer(ThreadingHTTPServer):
    """A server that listens from its construction on."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], *, scheme: str = "http"
    ) -> None:
        """Listens at once (port 0: any free port). `scheme`: that of `url`. Raises UsageError if the address
        is not available."""
        self.scheme = scheme
        host, port = address
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__(address, handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen on {host} port {port}: {error}") from None

    def server_bind(self) -> None:
        """Binds as TCPServer does: HTTPServer would look the host's name up, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at its end."""
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"{self.scheme}://{shown}:{port}"

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Serves from a thread until the block ends."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that go away: they are no error of the server."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def parse_address(text: str) -> tuple[str, int]:
    """Parses HOST:PORT, [HOST]:PORT or PORT; returns host and port. Raises UsageError."""
    host, _, port = text.rpartition(":")
    number = natural(port)
    if number is None or number > 65535:
        raise UsageError(f"listen address {text!r}: write HOST:PORT, for example 127.0.0.1:8000")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", number
