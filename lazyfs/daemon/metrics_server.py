"""A small HTTP server for metrics, with a limit of connections at a time, and of seconds for each."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

MOST = 8
"""The largest number of connections answered at a time; further connections are closed at once. A scraper
needs one."""
SECONDS = 10.0
"""Timeout of a connection in seconds, however slowly its bytes come."""


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Writes nothing: the daemon's stderr is its log."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, most: int, seconds: float) -> None:
        (family, *_, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.address_family = family
        self._most = most
        self._seconds = seconds
        self._guard = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection in a thread of its own, or closes it if there are too many."""
        with self._guard:
            free = len(self._deadlines) < self._most
            if free:
                self._deadlines[request] = time.monotonic() + self._seconds
        if free:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection that was answered."""
        with self._guard:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Ends the connections that took too long: their threads read and write no more."""
        now = time.monotonic()
        with self._guard:
            late = [request for request, deadline in self._deadlines.items() if deadline < now]
            for request in late:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing about a client that went away or was too slow."""


def answer(
    host: str, port: int, application: Callable[..., Any], *, most: int = MOST, seconds: float = SECONDS
) -> Callable[[], None]:
    """Serves a WSGI application in threads; returns a function that ends them. Raises OSError."""
    server = _Server(host, port, most, seconds)
    server.set_app(application)
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="metrics", daemon=True)
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
