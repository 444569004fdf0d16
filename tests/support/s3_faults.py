"""A proxy in front of an S3 server. By rules that a test gives, it fails as gateways do."""

import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.ports import free_port
from tests.support.radosgw import Radosgw
from tests.support.s3_admin import signed

_ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>made up by a test</Message></Error>'


class S3Request(NamedTuple):
    """One request as the proxy sees it."""

    method: str
    target: str
    headers: dict[str, str]
    """Header fields; the names are in lower case."""

    @property
    def is_write_of(self) -> str:
        """The last part of the name that a PUT writes; empty for other requests."""
        return self.target.partition("?")[0].rpartition("/")[2] if self.method == "PUT" else ""


class Answer(NamedTuple):
    """An answer that the proxy gives in place of the server."""

    status: int
    code: str
    body: str | None = None
    """The body; None for an S3 error document with `code`."""


class Fault(NamedTuple):
    """The treatment of one request by the proxy."""

    answer: Answer | None = None
    """Answer this, and do not ask the server."""
    cut_before: bool = False
    """Cut the connection, and do not ask the server."""
    cut_after: bool = False
    """Pass the request on, then cut the connection, so that the answer is lost."""
    without_conditions: bool = False
    """Remove If-Match and If-None-Match from the request."""
    flip: bool = False
    """Change one bit of the request's body."""
    first: Callable[[], object] | None = None
    """Called before anything else, for example to let another client act first."""


NONE = Fault()
SLOW_DOWN = Fault(answer=Answer(503, "SlowDown"))
INTERNAL = Fault(answer=Answer(500, "InternalError"))
CONFLICT = Fault(answer=Answer(409, "ConditionalRequestConflict"))
CUT = Fault(cut_before=True)
LOST = Fault(cut_after=True)

Rule = Callable[[S3Request], Fault]


class S3Faults:
    """The proxy, in threads of this process. A context manager."""

    def __init__(self, server: Radosgw, rule: Rule = lambda _request: NONE) -> None:
        """`rule` chooses the fault of each request. It may be replaced at any time."""
        self.rule = rule
        self.seen: list[S3Request] = []
        self.faults: list[Fault] = []
        """The fault that was applied to each request."""
        self.kept: list[tuple[S3Request, str | None]] = []
        """Each request that the server answered with a body, and the answer's Cache-Control."""
        self.at_once = 0
        self.most_at_once = 0
        self.port = free_port()
        self._server = server
        self._mutex = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(256)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def counts(self) -> Counter[str]:
        """Returns the number of requests by method."""
        with self._mutex:
            return Counter(request.method for request in self.seen)

    def forget(self) -> None:
        """Empties the log."""
        with self._mutex:
            self.seen.clear()
            self.faults.clear()
            self.most_at_once = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._mutex:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        for thread in list(self._threads):
            thread.join(30)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._mutex:
                self._open.add(connection)
                self._threads = [one for one in self._threads if one.is_alive()]
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        upstream = HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        try:
            with connection, connection.makefile("rb") as incoming:
                while self._exchange(connection, incoming, upstream):
                    pass
        except OSError:
            pass
        finally:
            upstream.close()
            with self._mutex:
                self._open.discard(connection)

    def _exchange(self, connection: socket.socket, incoming: object, upstream: HTTPConnection) -> bool:
        line = incoming.readline()  # type: ignore[attr-defined]
        if not line:
            return False
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (field := incoming.readline().decode("latin-1").rstrip("\r\n")) != "":  # type: ignore[attr-defined]
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        body = incoming.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]
        request = S3Request(method, target, headers)
        with self._mutex:
            self.seen.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self._answer(request, body, upstream)
        finally:
            with self._mutex:
                self.at_once -= 1
        if answer is None:
            return False
        connection.sendall(answer)
        return True

    def _answer(self, request: S3Request, body: bytes, upstream: HTTPConnection) -> bytes | None:
        fault = self.rule(request)
        with self._mutex:
            self.faults.append(fault)
        if fault.first:
            fault.first()
        if fault.cut_before:
            return None
        if fault.answer:
            said = fault.answer.body or _ERROR.format(code=fault.answer.code)
            text = said.encode() if request.method != "HEAD" else b""
            return _encode(fault.answer.status, "made up", {"content-type": "application/xml"}, text)
        headers = dict(request.headers)
        if fault.without_conditions:
            headers = {
                name: value for name, value in headers.items() if name not in ("if-match", "if-none-match")
            }
            headers = signed(self._server, request.method, request.target, headers, body)
        if fault.flip and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        upstream.request(request.method, request.target, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        if answer.status == 200 and request.method == "GET":
            with self._mutex:
                self.kept.append((request, answer.getheader("cache-control")))
        if fault.cut_after:
            return None
        fields = {
            name.lower(): value
            for name, value in answer.getheaders()
            if name.lower() not in ("transfer-encoding", "connection", "content-length")
        }
        length = answer.getheader("content-length") if request.method == "HEAD" else None
        return _encode(answer.status, answer.reason, fields, content, length)


def _encode(
    status: int, reason: str, fields: dict[str, str], body: bytes, length: str | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields.items())]
    lines.append(f"content-length: {length if length is not None else len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
