"""The servers for webhooks and reports: whatever a sender does, its connection ends and makes room for
another."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from lazyfs.sync.bounded_server import (
    MOST_CONNECTIONS,
    BoundedServer,
)
from tests.support.tls import Authority


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        self.send_response(HTTPStatus.ACCEPTED)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(tls: Any = None) -> Iterator[BoundedServer]:
    with BoundedServer(("127.0.0.1", 0), Handler, tls=tls).running() as server:
        yield server


def connected(server: BoundedServer, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=60)
    connection.sendall(sent)
    return connection


def is_ended(connection: socket.socket) -> bool:
    """Waits until the server closes a connection; returns True if it had not answered."""
    with connection:
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True


def status(server: BoundedServer, tls: ssl.SSLContext | None = None) -> int:
    """Returns the status of the answer to an honest sender."""
    host, port = "127.0.0.1", int(server.server_address[1])
    connection = (
        http.client.HTTPSConnection(host, port, timeout=60, context=tls)
        if tls
        else http.client.HTTPConnection(host, port, timeout=60)
    )
    try:
        connection.request("POST", "/", b"{}")
        return connection.getresponse().status
    finally:
        connection.close()


class Resetting:
    """A server's TLS context. The first MOST_CONNECTIONS clients reset their connections before the context
    looks at them."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._left = MOST_CONNECTIONS

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        self._left -= 1
        if self._left >= 0:
            raise ConnectionResetError("reset by peer")
        return self._context.wrap_socket(*arguments, **options)


def test_connections_that_are_reset_before_the_handshake_leave_room(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with running(Resetting(context)) as server:
        for _ in range(MOST_CONNECTIONS):
            assert is_ended(connected(server))
        assert status(server, ssl.create_default_context(cafile=str(authority.ca))) == 202


def test_connections_for_which_no_thread_could_be_started_leave_room(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with running() as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            for _ in range(MOST_CONNECTIONS):
                assert is_ended(connected(server))
        assert status(server) == 202
    assert capfd.readouterr().err == ""
