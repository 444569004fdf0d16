"""An HTTP server that misbehaves on demand. It can stand for an origin, a reverse cache, or a forward proxy.

It serves the bytes that `content(path)` returns, and keeps a log of the requests. `fault` (for all paths) and
`faults` (by path) can be changed while it runs.
"""

import email.utils
import enum
import socket
import ssl
import struct
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.ports import free_port


class Misbehave(enum.StrEnum):
    """The ways in which the server misbehaves."""

    REFUSE = "refuse"
    HANG = "hang"
    CLOSE = "close"
    CLOSE_AFTER_HEADERS = "close after headers"
    TRICKLE = "trickle"
    TRICKLE_HEADERS = "trickle headers"
    TRUNCATE = "truncate"
    RESET = "reset in mid-body"
    FLIP = "flip bits"
    STALE = "stale"
    PORTAL = "captive portal"
    S404 = "404"
    S401 = "401"
    S403 = "403"
    S407 = "407"
    S429 = "429"
    S500 = "500"
    S502 = "502"
    S503 = "503"
    REDIRECT = "redirect loop"
    LENGTH_LONG = "Content-Length too long"
    LENGTH_SHORT = "Content-Length too short"
    CHUNKED_GARBAGE = "chunked garbage"
    GZIP = "Content-Encoding gzip"
    NOISE = "not HTTP"


WAITED_FOR = (Misbehave.HANG, Misbehave.TRICKLE, Misbehave.TRICKLE_HEADERS)
"""Faults that a client notices by its limits of time only."""


class Seen(NamedTuple):
    """One logged request, and the fault with which it was answered; None if it was answered well."""

    path: str
    headers: dict[str, str]
    fault: Misbehave | None


def of_directory(directory: Path) -> Callable[[str], bytes | None]:
    """Returns a `content` function that reads the files of a store directory."""

    def content(path: str) -> bytes | None:
        file = directory / path.lstrip("/")
        return file.read_bytes() if file.is_file() else None

    return content


class FaultServer:
    """A server in threads of this process; use it as a context manager."""

    def __init__(
        self,
        content: Callable[[str], bytes | None],
        *,
        bytes_per_second: float = 1.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepares the server; with `tls` it speaks https."""
        self.content = content
        self.fault: Misbehave | None = None
        self.faults: dict[str, Misbehave] = {}
        self.latency = 0.0
        """Seconds before every answer."""
        self.stale: bytes = b"an older answer"
        self.extra_headers: dict[str, str] = {}
        self.seen: list[Seen] = []
        self.connections = 0
        self._pause = 1 / bytes_per_second
        self._tls = tls
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.port = free_port()
        self._listen()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        self._listener = listener
        self._stopping = threading.Event()
        self._start(self._accept, listener, self._stopping)

    def _start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def misbehave(self, fault: Misbehave | None) -> None:
        """Sets the fault of all paths from now on; None for none. REFUSE closes the port, and any other value
        opens it again."""
        self.fault = fault
        if fault == Misbehave.REFUSE:
            self._shut()
        elif self._listener is None:
            self._listen()

    def counts(self) -> Counter[str]:
        """Returns the number of requests by path, both well answered and failed ones."""
        with self._lock:
            return Counter(seen.path for seen in self.seen)

    def forget(self) -> None:
        """Empties the log."""
        with self._lock:
            self.seen.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shut()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _shut(self) -> None:
        listener, self._listener = self._listener, None
        self._stopping.set()
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for sock in self._open:
                with _quiet():
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket, stopping: threading.Event) -> None:
        with _quiet():
            while True:
                sock, _ = listener.accept()
                with self._lock:
                    self._threads = [thread for thread in self._threads if thread.is_alive()]
                    self.connections += 1
                    self._open.add(sock)
                self._start(self._connection, sock, stopping)

    def _connection(self, sock: socket.socket, stopping: threading.Event) -> None:
        if self._tls is not None:
            try:
                secured = self._tls.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()  # wrap_socket owns the socket only once it succeeds
                secured = None
            with self._lock:
                self._open.discard(sock)
                if secured is None:
                    return
                self._open.add(secured)
            sock = secured
        try:
            with _quiet():
                while self._exchange(sock, stopping):
                    pass
        finally:
            with self._lock:
                self._open.discard(sock)
                sock.close()

    def _exchange(self, sock: socket.socket, stopping: threading.Event) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            part = sock.recv(65536)
            if not part:
                return False
            head += part
        first, *lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        path = urllib.parse.urlsplit(first.split(" ")[1]).path
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        fault = self.faults.get(path, self.fault)
        with self._lock:
            self.seen.append(Seen(path, headers, fault))
        if self.latency:
            stopping.wait(self.latency)
        return self._answer(sock, path, fault, stopping)

    def _answer(self, sock: socket.socket, path: str, fault: Misbehave | None, stop: threading.Event) -> bool:
        body = self.content(path)
        match fault:
            case None:
                return _send(sock, 404 if body is None else 200, body or b"", self.extra_headers)
            case Misbehave.HANG:
                stop.wait()
                return False
            case Misbehave.CLOSE | Misbehave.REFUSE:
                return False
            case Misbehave.NOISE:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n" * 20)
                return False
            case (
                Misbehave.S404
                | Misbehave.S401
                | Misbehave.S403
                | Misbehave.S407
                | Misbehave.S429
                | Misbehave.S500
                | Misbehave.S502
                | Misbehave.S503
            ):
                delay = {"Retry-After": "1"} if fault in (Misbehave.S503, Misbehave.S429) else {}
                return _send(sock, int(fault.value), b"no", delay)
            case Misbehave.REDIRECT:
                return _send(sock, 302, b"", {"Location": path})
            case Misbehave.PORTAL:
                page = b"<html><body>Please log in to the network.</body></html>"
                return _send(sock, 200, page, {"Content-Type": "text/html"})
        if body is None:
            return _send(sock, 404, b"", {})
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        match fault:
            case Misbehave.CLOSE_AFTER_HEADERS:
                sock.sendall(head)
            case Misbehave.TRICKLE:
                sock.sendall(head)
                self._trickle(sock, body, stop)
            case Misbehave.TRICKLE_HEADERS:
                self._trickle(sock, head + body, stop)
            case Misbehave.TRUNCATE:
                sock.sendall(head + body[: len(body) // 2])
            case Misbehave.RESET:
                sock.sendall(head + body[: len(body) // 2])
                # closed without lingering: the kernel sends RST, not FIN
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case Misbehave.FLIP:
                middle = len(body) // 2
                wrong = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
                return _send(sock, 200, wrong, {})
            case Misbehave.STALE:
                return _send(sock, 200, self.stale, {"Age": "86400"})
            case Misbehave.LENGTH_LONG:
                return _send(sock, 200, body, {"Content-Length": str(len(body) + 1000)})
            case Misbehave.LENGTH_SHORT:
                return _send(sock, 200, body, {"Content-Length": str(len(body) - 1)})
            case Misbehave.CHUNKED_GARBAGE:
                sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz;;\r\n" + body)
            case Misbehave.GZIP:
                return _send(sock, 200, body, {"Content-Encoding": "gzip"})
            case _:
                raise AssertionError(fault)
        return False

    def _trickle(self, sock: socket.socket, data: bytes, stop: threading.Event) -> None:
        for start in range(len(data)):
            sock.sendall(data[start : start + 1])
            if stop.wait(self._pause):
                return


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignores OSError: a client that has closed its connection is no failure of the server."""
    try:
        yield
    except OSError:
        pass


def _send(sock: socket.socket, status: int, body: bytes, headers: dict[str, str]) -> bool:
    fields = {"Content-Length": str(len(body)), "Date": email.utils.formatdate(usegmt=True)} | headers
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    sock.sendall(head.encode() + b"\r\n" + body)
    return True
