"""urllib3's connections, each made, secured and read within the limits of its thread's guard."""

import http.client
import io
import re
import socket
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from lazyfs.core.chain.notation import redact
from lazyfs.core.digits import hexadecimal
from lazyfs.transport.connect import Resolver, open_socket
from lazyfs.transport.guard import SLICE, Guard, current
from lazyfs.transport.handshake import secure
from lazyfs.transport.tls_faults import untunnelled

if TYPE_CHECKING:
    from lazyfs.transport.tls import Tls


_LINE = 1 << 16
"""The largest number of bytes of one line in a body of HTTP's chunked encoding: the line with a part's size
and extensions, or a trailer."""
_TRAILERS = 100


class _GuardedReader(io.RawIOBase):
    """Reads a socket in slices and asks the guard in between."""

    def __init__(self, inner: Any, sock: socket.socket, guard: Guard, *, counted: bool) -> None:
        self._inner = inner  # http.client's own file: closing it releases the socket
        self._sock = sock
        self._guard = guard
        self._counted = counted

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                self._guard.check()
                continue
            if self._counted:
                self._guard.received(count)
            else:
                self._guard.tunnelled(count)
            return count

    def close(self) -> None:
        self._inner.close()
        super().close()


class _GuardedResponse(http.client.HTTPResponse):
    counted = True
    """True if the bytes read belong to the answer: they then count for the minimum rate and the time to the
    first byte."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        sock.settimeout(SLICE)
        reader = _GuardedReader(self.fp, sock, current(), counted=self.counted)
        self.fp: Any = io.BufferedReader(reader, 16384)

    def begin(self) -> None:
        super().begin()
        fields = self.headers.get_all("Content-Length", ())
        if len({part.strip() for field in fields for part in field.split(",")}) > 1:
            # urllib3 raises this too, but at a point where the socket is no longer closed
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


class _TunnelResponse(_GuardedResponse):
    counted = False


class Connection(HTTPConnection):
    """A plain TCP connection to an origin or a proxy."""

    resolver: Resolver
    response_class = _GuardedResponse

    def _new_conn(self) -> socket.socket:
        sock = open_socket(self._dns_host, self.port or 80, current(), self.resolver)
        sock.settimeout(SLICE)
        return sock


class TlsConnection(HTTPSConnection):
    """A TLS connection to an origin, directly or through a proxy's tunnel, or to a proxy."""

    resolver: Resolver
    tls: "Tls"
    response_class = _GuardedResponse

    def connect(self) -> None:
        """Connects to the origin or proxy, through a tunnel if one is set, and makes the TLS handshakes.
        Raises AttemptFailed, or the guard's exceptions.

        urllib3's own method makes each handshake in one call, without asking the guard while it waits.
        """
        guard = current()
        sock: Any = open_socket(self._dns_host, self.port or 443, guard, self.resolver)
        try:
            host, until = self.host, guard.connect_deadline()
            limit: float | None = until
            tunnelled = self._tunnel_host is not None
            if tunnelled:
                if self._tunnel_scheme == "https":
                    sock = self._secured(sock, self.host, self.port or 443, guard, until)
                sock.settimeout(SLICE)
                self.sock = sock
                self._make_tunnel()
                host, limit = self._tunnel_host or "", None  # this limit was for the connection to the proxy
            port = (self._tunnel_port if tunnelled else self.port) or 443
            self.sock = sock = self._secured(sock, host, port, guard, limit, tunnelled=tunnelled)
        except BaseException:
            sock.close()
            raise
        self.is_verified = True
        self._has_connected_to_proxy = bool(self.proxy)
        self.proxy_is_verified = True if self.proxy else None

    def _secured(
        self, sock: Any, host: str, port: int, guard: Guard, until: float | None, *, tunnelled: bool = False
    ) -> Any:
        return secure(sock, host, port, self.tls, guard, until=until, tunnelled=tunnelled)

    def _make_tunnel(self) -> None:
        origin = f"{self._tunnel_host}:{self._tunnel_port}"  # forgotten when the tunnel fails
        self.response_class = _TunnelResponse
        try:
            self._tunnel()
        except OSError as error:
            status = re.search(r"Tunnel connection failed: (\d{3})", str(error))
            if status is None:
                raise
            proxy = redact(self.proxy.url) if self.proxy else self.host
            raise untunnelled(proxy, int(status[1]), origin) from error
        finally:
            self.response_class = _GuardedResponse
