"""The daemon's metrics server, with clients that never finish their requests."""

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lazyfs.daemon.metrics_server import answer
from tests.support.until import until

MOST = 3


def _application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        found: int = free.getsockname()[1]
    end = answer("127.0.0.1", found, _application, most=MOST, seconds=0.5)
    yield found
    end()
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]


def _get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=30) as reply:
        body: bytes = reply.read()
        return body.decode()


def _answers(port: int) -> bool:
    try:
        return _get(port) == "/x"
    except OSError:
        return False


@pytest.mark.parametrize("sent", [b"", b"GET /x HTTP/1.1\r\nA: "])
def test_slow_clients_are_few_and_end(port: int, sent: bytes) -> None:
    assert _get(port) == "/x"
    before = threading.active_count()
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(50)]
        for client in slow:
            client.sendall(sent)
        assert threading.active_count() <= before + MOST
        for client in slow:
            try:
                assert client.recv(100) == b""
            except ConnectionResetError:
                continue
        until(lambda: _answers(port))


def test_one_that_sends_a_byte_at_a_time_ends_too(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.settimeout(0.05)

        def is_over() -> bool:
            try:
                client.sendall(b"x")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(is_over)
    until(lambda: _answers(port))
