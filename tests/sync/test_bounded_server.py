"""The servers for webhooks and reports: whatever a sender does, its connection ends and makes room for
another, and one sender does not keep out the others."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from lazyfs.sync import bounded_server
from lazyfs.sync.bounded_server import (
    HEAD_SECONDS,
    MOST_CONNECTIONS,
    MOST_OF_A_NETWORK,
    SECONDS,
    BoundedHandler,
    BoundedServer,
)
from lazyfs.sync.open_connections import OpenConnections
from tests.support.tls import Authority
from tests.support.until import until


class Handler(BoundedHandler):
    def do_POST(self) -> None:  # noqa: N802
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


def test_a_head_has_less_time_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(bounded_server, "monotonic", lambda: now[0])
    head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n"
    with running() as server:
        silent, slow, dead = connected(server), connected(server, head), connected(server, head)

        def deadlines() -> list[float]:
            return sorted(one.deadline for one in [*server._connections._open.values()])

        until(lambda: deadlines() == [HEAD_SECONDS, SECONDS, SECONDS])
        now[0] = HEAD_SECONDS + 1
        assert is_ended(silent)
        slow.sendall(b"{}")
        with slow:
            assert slow.recv(12) == b"HTTP/1.1 202"
        now[0] = SECONDS + 1
        assert is_ended(dead)


def test_one_network_does_not_keep_out_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as server, ExitStack() as stack:
        accept, sender = server.get_request, ["192.0.2.1"]
        monkeypatch.setattr(server, "get_request", lambda: (accept()[0], (sender[0], 1)))
        idle = [stack.enter_context(connected(server, b"POST")) for _ in range(MOST_OF_A_NETWORK)]
        assert is_ended(connected(server)), "one too many is closed"
        sender[0] = "192.0.2.2"
        assert status(server) == 202
        assert len(server._connections._open) >= len(idle)


@pytest.mark.parametrize(
    ("address", "same", "most"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", 2),
        ("2001:db8::1", "2001:db8::2", 2),
        ("127.0.0.1", "::ffff:127.0.0.1", 4),
        ("::1", "::1", 4),
    ],
)
def test_connections_are_bounded_by_network_and_in_all(address: str, same: str, most: int) -> None:
    """A web server on this machine may have all connections, another sender only a share."""
    connections = OpenConnections(4, 2)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(6)]
        for number, one in enumerate(sockets[:4]):
            assert connections.add(one, (address, same)[number % 2], 0.0) is (number < most)
        for one in sockets[4:]:
            assert connections.add(one, "198.51.100.1", 0.0) is (most == 2)
        connections.remove(sockets[0])
        assert connections.add(sockets[0], address, 0.0)
        assert not connections.add(sockets[3], address, 0.0)
