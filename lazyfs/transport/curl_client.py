"""One HTTP attempt on libcurl, for a tenth of the CPU of `requests` on a small object (benchmarks/http).

Optional: used if it is asked for and pycurl is installed. Names are looked up by our own resolver, because
libcurl's waits for a hanging getaddrinfo() when a transfer is given up.
"""

import errno
import os
import queue
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pycurl

from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.connect import Resolver
from lazyfs.transport.curl_tls import believe, place, unsecured
from lazyfs.transport.guard import SLICE, Guard, Limits
from lazyfs.transport.response_head import ERROR_PAGE, Head
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


class _Handle:
    """An easy handle in a multi handle of its own, with its connections; the loop that drives it can be left
    at any time."""

    def __init__(self, tls: "Tls | None") -> None:
        self.multi = pycurl.CurlMulti()
        self.easy = easy = pycurl.Curl()
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        easy.setopt(pycurl.NOPROXY, "")
        easy.setopt(pycurl.USERAGENT, "lazyfs")
        easy.setopt(pycurl.BUFFERSIZE, 256 << 10)
        easy.setopt(_SUPPRESS_CONNECT_HEADERS, 1)
        self.sockets: list[int] = []
        """Descriptors that were opened for the present attempt."""
        easy.setopt(pycurl.SOCKOPTFUNCTION, self._opened)
        if tls is not None:
            believe(easy, tls)

    def _opened(self, descriptor: int, purpose: int) -> int:  # noqa: ARG002
        self.sockets.append(descriptor)
        return int(pycurl.SOCKOPT_OK)

    def connected(self) -> bool:
        """Returns True if no socket is still connecting. libcurl itself reports a connection only after proxy
        and TLS have agreed too."""
        return not self.sockets or any(map(_has_peer, self.sockets))

    def close(self) -> None:
        self.easy.close()
        self.multi.close()


def _has_peer(descriptor: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.getpeername()
    except OSError:
        return False
    return True


class CurlClient:
    """Makes attempts. Thread-safe; handles with their kept-alive connections are lent to threads."""

    def __init__(self, limits: Limits, *, connections: int = 32, tls: "Tls | None" = None) -> None:
        """Arguments as for RequestsClient."""
        self._limits = limits
        self._tls = tls
        self._resolver = Resolver()
        # last in, first out: the handle used last has the warmest connection
        self._idle: queue.LifoQueue[_Handle] = queue.LifoQueue(connections)

    def get(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Answer:
        """Works as RequestsClient.get."""
        guard = Guard(attempt.deadline, self._limits.hurried(attempt.patience), check_cancelled)
        try:
            handle = self._idle.get_nowait()
        except queue.Empty:
            handle = _Handle(self._tls)
        try:
            answer = self._get(handle, attempt, guard)
        except BaseException:
            handle.close()  # its connection may be in any state
            raise
        try:
            self._idle.put_nowait(handle)
        except queue.Full:
            handle.close()
        if isinstance(answer, AttemptFailed):
            raise answer
        return answer

    def _get(self, handle: _Handle, attempt: Attempt, guard: Guard) -> Answer | AttemptFailed:
        """The answer, or a refusal with its whole body; raises any failure that leaves the connection in
        doubt."""
        body = _Body(attempt.max_bytes, guard)
        easy = handle.easy
        easy.setopt(pycurl.URL, attempt.url)
        easy.setopt(pycurl.PROXY, attempt.proxy or "")
        easy.setopt(pycurl.RESOLVE, self._addresses(attempt.proxy or attempt.url, guard))
        past_caches = ["Cache-Control: no-cache", "Pragma: no-cache"] if attempt.no_cache else []
        easy.setopt(pycurl.HTTPHEADER, ["Accept:", "Accept-Encoding: identity", *past_caches])
        tunnel = attempt.proxy is not None and attempt.url.startswith("https:")
        # behind a connected proxy, the origin gets the time limit of a first byte
        until = attempt.deadline + 1 if tunnel else guard.connect_deadline()
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, max(int((until - time.monotonic()) * 1000), 1))
        easy.setopt(pycurl.HEADERFUNCTION, body.header)
        easy.setopt(pycurl.WRITEFUNCTION, body.write)
        code, text = _perform(handle, guard, body, tunnel=tunnel)
        if body.failure is not None:
            raise body.failure
        if body.refusal is not None:
            refusal = self._peer(attempt, easy).refined(body.refusal, body.bytes())
            if code:
                raise refusal
            return refusal
        if code:
            peer = self._peer(attempt, easy)
            raise unsecured(code, text, easy, attempt, peer) or _failure(code, text, easy, guard, body)
        body.head.check_final(attempt.max_bytes)
        return Answer(
            body=body.bytes(),
            first_byte=(guard.first_byte or guard.started) - guard.started,
            elapsed=time.monotonic() - guard.started,
            html=body.head.html,
            from_cache=body.head.from_cache,
            date=body.head.field("date"),
        )

    def _peer(self, attempt: Attempt, easy: Any) -> Peer:
        """The peer of the handshake or request that failed."""
        tunnelled = attempt.url.startswith("https:") and attempt.proxy is not None
        if tunnelled and attempt.proxy.startswith("https:"):  # type: ignore[union-attr]
            tunnelled = bool(easy.getinfo(pycurl.HTTP_CONNECTCODE))
        url = attempt.url if tunnelled or not attempt.proxy else attempt.proxy
        return Peer(*place(url), self._tls, tunnelled=tunnelled)

    def _addresses(self, url: str, guard: Guard) -> list[str]:
        host, port = place(url)
        found = ",".join(
            f"[{address[0]}]" if ":" in address[0] else address[0]
            for _, address in self._resolver.resolve(host, port, guard)
        )
        return [] if host == found.strip("[]") else [f"{host}:{port}:{found}"]

    def close(self) -> None:
        """Closes idle connections."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


class _Body:
    """The data that libcurl hands over. Its callbacks must not raise: a failure is kept here until later."""

    def __init__(self, max_bytes: int, guard: Guard) -> None:
        self.head = Head()
        self.failure: BaseException | None = None
        self.refusal: AttemptFailed | None = None
        """True for a 404: its page is read to the end and dropped."""
        self._complete = False
        """True once the head of the answer has come: fields after the body are trailers, which are
        ignored."""
        self._parts: list[bytes] = []
        self._got = 0
        self._most = max_bytes
        self._guard = guard

    def header(self, line: bytes) -> int:
        try:
            self._guard.received(len(line))
            self._complete = self._complete and not line.startswith(b"HTTP/")
            if self._complete:
                return len(line)
            self.head.line(line)
            if line in (b"\r\n", b"\n"):
                self._check_head()
                self._complete = self.head.status >= 200
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
        try:
            self._guard.received(len(part), head=False)
        except BaseException as failure:  # noqa: BLE001 (raised again outside of libcurl)
            self.failure = failure
            return -1
        self._parts.append(part)
        return len(part)

    def bytes(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


def _perform(handle: _Handle, guard: Guard, body: _Body, *, tunnel: bool) -> tuple[int, str]:
    """Returns libcurl's code and text; 0 for success. Raises the guard's exceptions. `tunnel`: the proxy has
    its own time limit to connect, which libcurl cannot separate from that of the origin behind it."""
    multi = handle.multi
    handle.sockets.clear()
    multi.add_handle(handle.easy)
    try:
        while True:
            _, active = multi.perform()
            if not active:
                break
            if multi.select(SLICE) == -1:
                time.sleep(0.001)  # nothing to wait for yet
            if body.failure is None:
                guard.check()
            if tunnel and time.monotonic() >= guard.connect_deadline():
                if not handle.connected():
                    raise AttemptFailed(Fault.CONNECT, "proxy")
                tunnel = False
        _, _, failed = multi.info_read()
        return (failed[0][1], failed[0][2]) if failed else (0, "")
    finally:
        multi.remove_handle(handle.easy)


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
