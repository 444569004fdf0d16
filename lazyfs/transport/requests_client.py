"""One HTTP attempt on requests: one URL, one proxy or none, one body.

What is asked of requests is little: URLs, proxies, TLS and pools of kept-alive connections. Its adapter is
called directly with a prepared request (540-1000 us of CPU each, a Session takes 850-1210), and bodies are
read raw (`.content` reads 8 MiB bodies at 330-470 MB/s, `read1` at 1090-1790).
"""

import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.core.digits import hexadecimal
from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.connect import Resolver, open_socket
from lazyfs.transport.guard import SLICE, Guard, Limits, current, guarding
from lazyfs.transport.response_head import Head

_STEP = 1 << 20
"""Bytes per read: larger gains nothing, and cancellation is noticed between reads."""

_LINE = 1 << 16
"""Bytes of a chunk's size with its extensions, or of a trailer."""
_TRAILERS = 100

_FAULTS: tuple[tuple[type[Exception], Fault], ...] = (
    (requests.exceptions.SSLError, Fault.TLS),
    (requests.exceptions.ProxyError, Fault.UNAVAILABLE),
    (urllib3.exceptions.SSLError, Fault.TLS),
    (urllib3.exceptions.ProxyError, Fault.UNAVAILABLE),
    (http.client.RemoteDisconnected, Fault.CLOSED),
    (http.client.IncompleteRead, Fault.TRUNCATED),
    (urllib3.exceptions.IncompleteRead, Fault.TRUNCATED),
    (urllib3.exceptions.InvalidChunkLength, Fault.GARBLED),
    (http.client.HTTPException, Fault.GARBLED),
    (ConnectionError, Fault.CLOSED),
    (TimeoutError, Fault.CONNECT),
    (OSError, Fault.CLOSED),
    (urllib3.exceptions.HTTPError, Fault.GARBLED),
    (ValueError, Fault.GARBLED),
)
"""The innermost exception that is in this table says what happened. In order: the first match counts."""


def _fault_of(error: BaseException) -> AttemptFailed:
    """The foreign exception as ours: requests wraps urllib3's, which wrap those of http.client and socket."""
    chain = [error]
    while len(chain) < 8:
        inner = [a for a in chain[-1].args if isinstance(a, Exception)]
        reason = getattr(chain[-1], "reason", None)
        following = chain[-1].__cause__ or (inner[0] if inner else None)
        following = following or (reason if isinstance(reason, Exception) else None)
        if following is None:
            break
        chain.append(following)
    for link in reversed(chain):
        # requests' own exceptions are OSErrors: only their subclasses named in the table say anything
        vague = isinstance(link, requests.exceptions.RequestException)
        for kind, fault in _FAULTS[:4] if vague else _FAULTS:
            if isinstance(link, kind):
                return AttemptFailed(fault, str(link)[:200])
    return AttemptFailed(Fault.GARBLED, str(error)[:200])


class _GuardedReader(io.RawIOBase):
    """Reads a socket in slices and asks the guard in between."""

    def __init__(self, inner: Any, sock: socket.socket, guard: Guard) -> None:
        self._inner = inner  # http.client's own file: closing it lets the socket go
        self._sock = sock
        self._guard = guard

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                self._guard.check()
                continue
            self._guard.received(count)
            return count

    def close(self) -> None:
        self._inner.close()
        super().close()


class _GuardedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        sock.settimeout(SLICE)
        self.fp: Any = io.BufferedReader(_GuardedReader(self.fp, sock, current()), 16384)

    def begin(self) -> None:
        super().begin()
        fields = self.headers.get_all("Content-Length", ())
        if len({part.strip() for field in fields for part in field.split(",")}) > 1:
            # urllib3 says so too, but when nobody closes the socket any more
            raise http.client.HTTPException("several values of Content-Length")

    # http.client reads chunk sizes with int(), which takes -5 and 0x_1, and trailers without end

    def _read_next_chunk_size(self) -> int:
        size = hexadecimal(self._short_line("chunk size").split(b";", 1)[0].strip())
        if size is None:
            raise http.client.HTTPException("a chunk size that is no number")
        return size

    def _read_and_discard_trailer(self) -> None:
        for _ in range(_TRAILERS):
            if self._short_line("trailer") in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException(f"more than {_TRAILERS} trailers")

    def _short_line(self, what: str) -> bytes:
        line: bytes = self.fp.readline(_LINE + 1)
        if len(line) > _LINE:
            raise http.client.LineTooLong(what)
        return line


class _Connection(HTTPConnection):
    resolver: Resolver
    response_class = _GuardedResponse

    def _new_conn(self) -> socket.socket:
        sock = open_socket(self._dns_host, self.port or 80, current(), self.resolver)
        sock.settimeout(SLICE)
        return sock


class _TlsConnection(HTTPSConnection):
    resolver: Resolver
    response_class = _GuardedResponse

    def _new_conn(self) -> socket.socket:
        return open_socket(self._dns_host, self.port or 443, current(), self.resolver)

    def connect(self) -> None:
        # A handshake can trickle too, and OpenSSL asks nobody while it waits.
        guard = current()
        left = guard.connect_deadline() - time.monotonic()
        watchdog = threading.Timer(max(left, 0), self._cut)
        watchdog.daemon = True
        watchdog.start()
        try:
            super().connect()
        finally:
            watchdog.cancel()

    def _cut(self) -> None:
        sock = self.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself


class _Adapter(HTTPAdapter):
    """Pools whose connections ask the guard."""

    def __init__(self, resolver: Resolver, connections: int, verify: bool | str) -> None:
        plain = type("Connection", (_Connection,), {"resolver": resolver})
        tls = type("TlsConnection", (_TlsConnection,), {"resolver": resolver})
        self._pools = {
            "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("TlsPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
        }
        self.verify = verify
        super().__init__(pool_connections=64, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


class RequestsClient:
    """Makes attempts. Thread-safe; connections are kept alive and shared by all threads."""

    def __init__(self, limits: Limits, *, connections: int = 32, verify: bool | str = True) -> None:
        """`connections`: kept alive per proxy or origin. `verify`: False, True, or a file of trusted CAs."""
        self._limits = limits
        self._adapter = _Adapter(Resolver(), connections, verify)
        template = requests.PreparedRequest()
        template.prepare(method="GET", url="http://template.invalid/")
        template.headers.clear()
        template.headers["User-Agent"] = "lazyfs"
        # A proxy that compresses breaks digests and ranges alike; frames are compressed already.
        template.headers["Accept-Encoding"] = "identity"
        self._template = template

    def get(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Answer:
        """The answer with status 200 and its whole body; anything else is an AttemptFailed.

        Redirects are not followed: a store has none, a captive portal does.
        """
        limits = self._limits.hurried(attempt.patience)
        with guarding(Guard(attempt.deadline, limits, check_cancelled)) as guard:
            try:
                return self._get(attempt, guard)
            except AttemptFailed as error:
                # The server may have closed a kept-alive connection just when we used it: says nothing.
                if error.fault != Fault.CLOSED or guard.connected or guard.first_byte is not None:
                    raise
                return self._get(attempt, guard)

    def _get(self, attempt: Attempt, guard: Guard) -> Answer:
        prepared = self._template.copy()
        prepared.url = attempt.url
        if attempt.no_cache:
            prepared.headers["Cache-Control"] = "no-cache"
            prepared.headers["Pragma"] = "no-cache"
        proxies = {"http": attempt.proxy, "https": attempt.proxy} if attempt.proxy else {}
        try:
            response = self._adapter.send(
                prepared, stream=True, timeout=(5.0, SLICE), verify=self._adapter.verify, proxies=proxies
            )
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
        ) as error:
            raise _fault_of(error) from error
        guard.head_bytes = None
        raw = response.raw
        whole = False
        head = Head.of(response.status_code, response.headers)
        try:
            body = _read(response, head, attempt, guard)
            raw.drain_conn()  # nothing is left, but only a read at the end gives the connection back
            whole = True
        except AttemptFailed:
            if head.short_page:
                whole = _drop(response, guard)
            raise
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            failure = _fault_of(error)
            if failure.fault == Fault.TRUNCATED and raw.chunked:  # http.client says so of any bad chunk
                failure = AttemptFailed(Fault.GARBLED, "bad chunked encoding")
            raise failure from error
        finally:
            if not whole:
                raw.close()
        return Answer(
            body=body,
            first_byte=(guard.first_byte or guard.started) - guard.started,
            elapsed=time.monotonic() - guard.started,
            html=head.html,
            from_cache=head.from_cache,
        )

    def close(self) -> None:
        """Closes idle connections."""
        self._adapter.close()


def _read(response: requests.Response, head: Head, attempt: Attempt, guard: Guard) -> bytes:
    expected = head.check_final(attempt.max_bytes)
    parts: list[bytes] = []
    got = 0
    while expected is None or got < expected:
        part = response.raw.read1(_STEP, decode_content=False)
        if not part:
            break
        got += len(part)
        if got > attempt.max_bytes:
            raise AttemptFailed(Fault.TOO_LONG, f"more than {attempt.max_bytes} bytes")
        parts.append(part)
        guard.check()
    if expected is not None and got < expected:
        raise AttemptFailed(Fault.TRUNCATED, f"{got} of {expected} bytes")
    if expected is not None and got > expected:  # http.client has read another length than we have
        raise AttemptFailed(Fault.GARBLED, f"{got} bytes where {expected} were announced")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _drop(response: requests.Response, guard: Guard) -> bool:
    """Reads a short error page to its end; whether the connection can be used again."""
    try:
        while response.raw.read1(_STEP, decode_content=False):
            guard.check()
        response.raw.drain_conn()
    except (AttemptFailed, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError):
        return False
    return True
