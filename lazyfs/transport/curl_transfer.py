"""One attempt on a libcurl easy handle: its options, its data, and its outcome. The driver of the handle
(`curl_client` or `curl_loop`) asks the attempt's guard (`guard`) in every slice of waiting."""

import errno
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pycurl

from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.connect import Address
from lazyfs.transport.curl_tls import believe, place, unsecured
from lazyfs.transport.guard import Guard
from lazyfs.transport.response_head import ERROR_PAGE, Head
from lazyfs.transport.spare_connections import SpareConnections
from lazyfs.transport.tls_faults import Peer

if TYPE_CHECKING:
    from lazyfs.transport.tls import Tls

_FAULTS = {
    pycurl.E_COULDNT_RESOLVE_PROXY: Fault.DNS,
    pycurl.E_COULDNT_RESOLVE_HOST: Fault.DNS,
    pycurl.E_GOT_NOTHING: Fault.CLOSED,
    pycurl.E_SEND_ERROR: Fault.CLOSED,
    pycurl.E_PARTIAL_FILE: Fault.TRUNCATED,
    pycurl.E_OPERATION_TIMEDOUT: Fault.CONNECT,
}
"""Faults by libcurl's code. Any other code means a peer that does not speak proper HTTP."""


_SUPPRESS_CONNECT_HEADERS = 265
"""CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not name: a proxy's answer to CONNECT is not the answer
to the request."""

_PLAIN = ["Accept:", "Accept-Encoding: identity"]
_PAST_CACHES = [*_PLAIN, "Cache-Control: no-cache", "Pragma: no-cache"]


class EasyHandle:
    """An easy handle with the options that all attempts share."""

    def __init__(self, tls: "Tls | None", spares: SpareConnections | None = None) -> None:
        """`spares`: connections that the handle uses before it makes its own."""
        self._spares = spares
        self._connected = False
        """True if the socket that was opened last is connected already."""
        self._original: socket.socket | None = None
        """The socket that was opened last, until pycurl has made its duplicate."""
        self.easy = easy = pycurl.Curl()
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        easy.setopt(pycurl.NOPROXY, "")
        easy.setopt(pycurl.USERAGENT, "lazyfs")
        easy.setopt(pycurl.BUFFERSIZE, 256 << 10)
        easy.setopt(_SUPPRESS_CONNECT_HEADERS, 1)
        self.used = 0.0
        """The time of the end of the last attempt, on time.monotonic()'s clock."""
        self.sockets: list[int] = []
        """Descriptors that were opened for the present attempt."""
        if spares is not None:
            easy.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        easy.setopt(pycurl.SOCKOPTFUNCTION, self._opened)
        if tls is not None:
            believe(easy, tls)

    def _open(self, purpose: int, wanted: Any) -> socket.socket | int:  # noqa: ARG002
        """Returns a socket; pycurl makes a duplicate for libcurl."""
        assert self._spares is not None
        self._close_original()
        spare = self._spares.take((wanted.family, wanted.addr))
        self._connected = spare is not None
        try:
            self._original = spare or socket.socket(wanted.family, wanted.socktype, wanted.protocol)
        except OSError:  # the node has no descriptors left
            return int(pycurl.SOCKET_BAD)
        return self._original

    def _opened(self, descriptor: int, purpose: int) -> int:  # noqa: ARG002
        if self._close_original():
            os.set_inheritable(descriptor, False)  # the duplicate would stay open in other programs
        self.sockets.append(descriptor)
        return int(pycurl.SOCKOPT_ALREADY_CONNECTED if self._connected else pycurl.SOCKOPT_OK)

    def _close_original(self) -> bool:
        """Closes the socket of which pycurl has made a duplicate, or could not make one. Returns True if
        there was one."""
        original, self._original = self._original, None
        if original is not None:
            original.close()
        return original is not None

    def connected(self) -> bool:
        """Returns True if no socket is still connecting. libcurl itself reports a connection only after proxy
        and TLS have agreed too."""
        return not self.sockets or any(map(_has_peer, self.sockets))

    def close(self) -> None:
        self._close_original()
        self.easy.close()


def _has_peer(descriptor: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.getpeername()
    except OSError:
        return False
    return True


class Transfer:
    """An attempt under way on a handle."""

    def __init__(
        self, handle: EasyHandle, attempt: Attempt, guard: Guard, addresses: list[Address], tls: "Tls | None"
    ) -> None:
        """Sets the handle's options. `addresses`: those of the machine to connect to, proxy or origin."""
        self.handle = handle
        self.attempt = attempt
        self.guard = guard
        self._tls = tls
        self._body = _Body(attempt.max_bytes, guard)
        handle.sockets.clear()
        setopt = handle.easy.setopt
        setopt(pycurl.URL, attempt.url)
        setopt(pycurl.PROXY, attempt.proxy or "")
        setopt(pycurl.RESOLVE, _resolved(attempt.proxy or attempt.url, addresses))
        setopt(pycurl.HTTPHEADER, _PAST_CACHES if attempt.no_cache else _PLAIN)
        self._tunnel = attempt.proxy is not None and attempt.url.startswith("https:")
        # behind a connected proxy, the origin gets the time limit of a first byte
        until = attempt.deadline + 1 if self._tunnel else guard.connect_deadline()
        setopt(pycurl.CONNECTTIMEOUT_MS, max(int((until - time.monotonic()) * 1000), 1))
        setopt(pycurl.HEADERFUNCTION, self._body.header)
        setopt(pycurl.WRITEFUNCTION, self._body.write)

    def check(self) -> None:
        """Raises the guard's exceptions, and AttemptFailed if a tunnel's proxy is not connected in time:
        libcurl has only one limit for the proxy and the origin behind it."""
        if self._body.failure is None:
            self.guard.check()
        if self._tunnel and time.monotonic() >= self.guard.connect_deadline():
            if not self.handle.connected():
                raise AttemptFailed(Fault.CONNECT, "proxy")
            self._tunnel = False

    def answer(self, code: int, text: str) -> Answer | AttemptFailed:
        """Returns the answer, or the failure for a refusal whose whole body was read; the connection can then
        be used again. `code`, `text`: those with which libcurl ended the transfer; code 0 means success.
        Raises any failure that leaves the connection in doubt."""
        body, attempt, easy = self._body, self.attempt, self.handle.easy
        if body.failure is not None:
            raise body.failure
        if body.refusal is not None:
            refusal = self._peer().refined(body.refusal, body.bytes())
            if code:
                raise refusal
            return refusal
        if code:
            raise unsecured(code, text, easy, attempt, self._peer()) or _failure(
                code, text, easy, self.guard, body
            )
        if not body.complete:
            body.head.check_final(attempt.max_bytes)
        guard = self.guard
        return Answer(
            body=body.bytes(),
            first_byte=(guard.first_byte or guard.started) - guard.started,
            elapsed=time.monotonic() - guard.started,
            html=body.head.html,
            from_cache=body.head.from_cache,
            date=body.head.field("date"),
        )

    def _peer(self) -> Peer:
        """Returns the peer of the handshake or request that failed."""
        attempt = self.attempt
        tunnelled = attempt.url.startswith("https:") and attempt.proxy is not None
        if tunnelled and attempt.proxy.startswith("https:"):  # type: ignore[union-attr]
            tunnelled = bool(self.handle.easy.getinfo(pycurl.HTTP_CONNECTCODE))
        url = attempt.url if tunnelled or not attempt.proxy else attempt.proxy
        return Peer(*place(url), self._tls, tunnelled=tunnelled)


def _resolved(url: str, addresses: list[Address]) -> list[str]:
    host, port = place(url)
    found = ",".join(f"[{address[0]}]" if ":" in address[0] else address[0] for _, address in addresses)
    return [] if host == found.strip("[]") else [f"{host}:{port}:{found}"]


class _Body:
    """The data that libcurl hands over. Its callbacks must not raise: they keep a failure here, and
    `Transfer.answer` raises it."""

    def __init__(self, max_bytes: int, guard: Guard) -> None:
        self.head = Head()
        self.failure: BaseException | None = None
        self.refusal: AttemptFailed | None = None
        """The failure of a 404 or a similar refusal; its page is read to the end and dropped."""
        self._lines: list[bytes] = []
        self.complete = False
        """True once the head of the final answer has come and been checked. Later header lines are trailers,
        which are ignored."""
        self._parts: list[bytes] = []
        self._got = 0
        self._most = max_bytes
        self._guard = guard

    def header(self, line: bytes) -> int:
        # libcurl calls this for each of some ten header lines: none is parsed before the last has come.
        try:
            self._guard.count(len(line))
            if self.complete:
                if not line.startswith(b"HTTP/"):
                    return len(line)
                self.complete = False
            self._lines.append(line)
            if line in (b"\r\n", b"\n"):
                self.head = Head.parse(self._lines)
                self._lines.clear()
                self._check_head()
                self.complete = self.head.status >= 200
        except BaseException as failure:  # noqa: BLE001 (raised again outside of libcurl)
            self.failure = failure
            return -1
        return len(line)

    def _check_head(self) -> None:
        try:
            self.head.check(self._most)
        except AttemptFailed as refusal:
            if not self.head.short_page:
                raise
            self.refusal = refusal
            self._most = ERROR_PAGE

    def write(self, part: bytes) -> int:
        self._got += len(part)
        if self._got > self._most:
            self.failure = AttemptFailed(Fault.TOO_LONG, f"more than {self._most} bytes")
            return -1
        self._guard.count(len(part), head=False)
        self._parts.append(part)
        return len(part)

    def bytes(self) -> bytes:
        """Returns the received bytes and drops them here: an idle handle refers to this body until its next
        attempt."""
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return whole


def _failure(code: int, text: str, easy: Any, guard: Guard, body: _Body) -> AttemptFailed:
    if code == pycurl.E_COULDNT_CONNECT:
        refused = easy.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED
        return AttemptFailed(Fault.REFUSED if refused else Fault.UNREACHABLE, text)
    if code == pycurl.E_RECV_ERROR:
        # libcurl reports invalid chunk sizes and endless answers to CONNECT as receive errors
        if body.head.chunked or "too large" in text:
            return AttemptFailed(Fault.GARBLED, text)
        return AttemptFailed(Fault.CLOSED if guard.first_byte is None else Fault.TRUNCATED, text)
    return AttemptFailed(_FAULTS.get(code, Fault.GARBLED), text)
