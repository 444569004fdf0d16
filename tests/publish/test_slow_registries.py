"""Servers that never come to an end of an answer: each of their bytes comes in time, and the whole of them
does not."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from urllib3.exceptions import ReadTimeoutError

from lazyfs.images.registry import timed_connections
from lazyfs.images.registry import wire as wire_module
from lazyfs.images.registry.certificates import Certificates
from lazyfs.images.registry.problems import Failed
from lazyfs.images.registry.wire import Wire
from tests.support.dripping_server import dripping
from tests.support.tls import Authority

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
TLS_RECORD = b"\x16\x03\x03\x40\x00"
"""The head of a TLS record of 16 KiB."""


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "CONNECT", 1.0)
    monkeypatch.setattr(wire_module, "WHOLE", 1.0)
    monkeypatch.setattr(timed_connections, "SLICE", 0.1)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(Certificates((), (), {}), plain_http=True, proxies=lambda _: None)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["status line", "field", "interim answers"],
)
@pytest.mark.usefixtures("hurried")
def test_a_head_without_an_end_is_given_up(wire: Wire, begin: bytes, drip: bytes) -> None:
    with dripping([begin], drip) as host, pytest.raises(Failed, match="does not answer in time"):
        wire.get(f"http://{host}/", {})


@pytest.mark.parametrize("drip", [b"1;", b"0\r\na: b\r\n"], ids=["chunk extension", "trailers"])
@pytest.mark.usefixtures("hurried")
def test_the_lines_of_chunks_are_not_waited_for_without_an_end(wire: Wire, drip: bytes) -> None:
    with dripping([CHUNKED + drip], b"a: b\r\n" if drip.endswith(b"\n") else b"x") as host:
        with wire.get(f"http://{host}/", {}) as reply, pytest.raises(ReadTimeoutError):
            list(reply.parts())
        with wire.get(f"http://{host}/", {}) as reply, pytest.raises(Failed, match="in time"):
            reply.small(1000)


@pytest.mark.parametrize("through_tls", [False, True])
@pytest.mark.parametrize("answers", [[b"HTTP/1.1 200 OK\r\nX: "], [b"HTTP/1.1 200 OK\r\n\r\n", TLS_RECORD]])
@pytest.mark.usefixtures("hurried")
def test_a_proxy_is_not_waited_for_without_an_end(
    answers: list[bytes], through_tls: bool, tmp_path: Path
) -> None:
    """Neither its answer to CONNECT nor the handshake with the server behind it takes for ever."""
    authority = Authority(tmp_path)
    certificates = Certificates((), (), {"SSL_CERT_FILE": str(authority.ca)})
    pair = authority.server() if through_tls else None
    with dripping(answers, b"\x02", certificate=pair) as host:
        proxy = f"{'https' if through_tls else 'http'}://{host}"
        wire = Wire(certificates, plain_http=True, proxies=lambda _: proxy)
        with pytest.raises(Failed, match="in time"):
            wire.get("https://r.example/", {})
        wire.close()


def test_a_socket_sends_with_its_usual_timeout() -> None:
    """What the wait for an answer has set does not hold for what is sent next."""
    server, client = socket.socketpair()
    with server, timed_connections._PlainSocket(fileno=client.detach()) as timed:
        timed.settimeout(7.0)
        server.sendall(b"answer")
        with timed_connections.limited(60, 60, lambda: None):
            assert timed.recv(100) == b"answer"
        assert timed.gettimeout() == 7.0
