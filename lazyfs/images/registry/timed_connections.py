"""Connections whose reads end in time, however a server spreads its bytes.

The timeout of a socket begins anew with each received byte. So a server that sends a byte a minute could hold
up its client for ever: in the head of an answer, in `100 Continue` before it, in the lines between the chunks
of a body and after them, in a proxy's answer to CONNECT, in a TLS handshake through that proxy. Here every
read of a socket asks the limit of the step at which its thread is: see `limited`.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

SLICE = 1.0
"""The longest wait in one system call, in seconds: this much later than a limit, a read ends."""

T = TypeVar("T")


class _Limit(NamedTuple):
    end: float
    silence: float
    check: Callable[[], None]


_current = threading.local()


@contextmanager
def limited(seconds: float, silence: float, check: Callable[[], None]) -> Iterator[None]:
    """Limits this thread's reads of connections in the block. They raise TimeoutError once `seconds` have
    passed since the block began, or after `silence` seconds without a byte. `check`: called before each wait;
    it raises an exception to end the read."""
    _current.limit = _Limit(time.monotonic() + seconds, silence, check)
    try:
        yield
    finally:
        del _current.limit


def _in_time(sock: socket.socket, read: Callable[[], T]) -> T:
    """Calls `read`, which reads from the socket, within the limit of this thread."""
    limit: _Limit | None = getattr(_current, "limit", None)
    if limit is None:
        return read()
    usual = sock.gettimeout()
    end = min(limit.end, time.monotonic() + limit.silence)
    try:
        while True:
            limit.check()
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            sock.settimeout(min(left, SLICE))
            try:
                return read()
            except TimeoutError:
                continue
    finally:
        sock.settimeout(usual)  # for what is sent, in a handshake in a tunnel between two reads


class _PlainSocket(socket.socket):
    def recv(self, *arguments: Any, **named: Any) -> bytes:
        return _in_time(self, partial(super().recv, *arguments, **named))

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        return _in_time(self, partial(super().recv_into, *arguments, **named))


class _TlsSocket(ssl.SSLSocket):
    def recv(self, *arguments: Any, **named: Any) -> bytes:
        return _in_time(self, partial(super().recv, *arguments, **named))

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        return _in_time(self, partial(super().recv_into, *arguments, **named))


class _PlainConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _timed(super()._new_conn())


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _timed(super()._new_conn())


def _timed(made: socket.socket) -> socket.socket:
    timeout = made.gettimeout()
    timed = _PlainSocket(fileno=made.detach())
    timed.settimeout(timeout)
    return timed


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _PlainPool, "https": _TlsPool}
"""The pools of such connections, for `pool_classes_by_scheme` of urllib3's managers."""


def timed_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """Makes the TLS sockets of a context such connections too; returns the context."""
    context.sslsocket_class = _TlsSocket
    return context
