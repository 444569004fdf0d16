"""An HTTP origin for one machine: the files of a store, and nothing else.

Answers GET and HEAD for data/ and metadata/ with Range (one range), If-Range, If-None-Match and
If-Modified-Since (RFC 9110). Real sites put nginx or a bucket in its place.
"""

import os
import re
import socket
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO, NamedTuple

from lazyfs.core.errors import UsageError

FOREVER = "public, max-age=31536000, immutable"
TIMESTAMP_CACHE = "public, max-age=30"
"""How long proxies may keep the timestamp: a new revision is seen that much later, and a site's workers
together ask for it at most twice a minute."""

MISSING_METADATA_CACHE = "public, max-age=60"
"""A client looks for the next root before each new revision; proxies may answer that it is not there."""

IDLE_SECONDS = 75
_INLINE = 1 << 16
"""Bodies up to this size leave in one send with their header; larger ones go by sendfile(2)."""

_PATH = re.compile(r"/((?:data|metadata)(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Served(NamedTuple):
    """One answered request."""

    method: str
    path: str
    status: int
    sent: int
    """Body bytes."""


class Counters:
    """What has been asked for and sent; safe to read at any time."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._bytes: Counter[str] = Counter()
        self._paths: Counter[str] = Counter()

    def add(self, served: Served) -> None:
        with self._mutex:
            kind = served.path.split("/")[0]
            self._requests[kind, served.status] += 1
            self._bytes[kind] += served.sent
            self._paths[served.path] += 1

    def lost(self, path: str, count: int) -> None:
        """Body bytes that were counted and could not be sent."""
        with self._mutex:
            self._bytes[path.split("/")[0]] -= count

    def requests(self, kind: str | None = None, status: int | None = None) -> int:
        """How many, of all or of `data` or `metadata`, with any or one status."""
        with self._mutex:
            return sum(
                count
                for (own, code), count in self._requests.items()
                if kind in (None, own) and status in (None, code)
            )

    def bytes(self, kind: str | None = None) -> int:
        """Body bytes sent, of all or of `data` or `metadata`."""
        with self._mutex:
            return sum(count for own, count in self._bytes.items() if kind in (None, own))

    def paths(self) -> dict[str, int]:
        """Requests for each path, relative to the store."""
        with self._mutex:
            return dict(self._paths)


class Origin(ThreadingHTTPServer):
    """The server of one store; a thread for each connection."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self, store: str, host: str = "127.0.0.1", port: int = 0, log: Callable[[Served], None] | None = None
    ) -> None:
        """Listens at once (port 0: any free one). `log` is called after each answer, from many threads.

        Raises UsageError if the address cannot be had, or if the store is none or has private keys in it.
        """
        self.store = os.path.abspath(store)
        check_store(self.store)
        self.counters = Counters()
        self.log = log or (lambda _served: None)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen on {host} port {port}: {error}") from None

    def server_bind(self) -> None:
        """As TCPServer: HTTPServer would look the host's name up, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    @property
    def url(self) -> str:
        """Where clients find the store."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    @contextmanager
    def running(self) -> Iterator["Origin"]:
        """Serves from a thread until the block ends."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are no error of the server."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def check_store(store: str) -> None:
    """Raises UsageError if `store` has no metadata/, or a private key anywhere but among its objects."""
    if not os.path.isfile(os.path.join(store, "metadata", "timestamp.json")):
        raise UsageError(f"{store} is not a store: make one with `lazyfs repo init {store} --name NAME`")
    for directory, names, files in os.walk(store):
        if os.path.basename(directory) == "data":
            names[:] = [name for name in names if not re.fullmatch(r"[0-9a-f]{2}", name)]
        for name in files:
            path = os.path.join(directory, name)
            if name.endswith((".pem", ".pem.retired")) or _is_private_key(path):
                raise UsageError(
                    f"private key {path} lies in the store: move it away before serving the store"
                )


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, [HOST]:PORT or PORT. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"listen address {text!r}: write HOST:PORT, for example 127.0.0.1:8000")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def _is_private_key(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"PRIVATE KEY" in file.read(100)
    except OSError:
        return False


class _Handler(BaseHTTPRequestHandler):
    server: Origin
    protocol_version = "HTTP/1.1"
    server_version = "lazyfs"
    sys_version = ""
    timeout = IDLE_SECONDS
    wbufsize = -1  # header and small body leave in one send
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        match = _PATH.fullmatch(self.path)
        file = self._open(match[1]) if match else None
        if file is None:
            missing = MISSING_METADATA_CACHE if self.path.startswith("/metadata/") else "no-store"
            self._plain(HTTPStatus.NOT_FOUND, {"Cache-Control": missing})
            return
        with file:
            self._file(file, os.fstat(file.fileno()))

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        self.close_connection = True  # a body that was not read would be taken for the next request
        self._plain(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Origin.log does it."""

    def _open(self, path: str) -> BinaryIO | None:
        """The regular file of that name; a link could lead out of the store."""
        try:
            descriptor = os.open(
                os.path.join(self.server.store, path),
                os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
            )
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return open(descriptor, "rb", buffering=0)

    def _file(self, file: BinaryIO, status: os.stat_result) -> None:
        path = self.path[1:]
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = {
            "ETag": etag,
            "Last-Modified": formatdate(int(status.st_mtime), usegmt=True),
            "Cache-Control": TIMESTAMP_CACHE if path == "metadata/timestamp.json" else FOREVER,
            "Accept-Ranges": "bytes",
        }
        if self._unchanged(etag, int(status.st_mtime)):
            self._plain(HTTPStatus.NOT_MODIFIED, headers)
            return
        start, end, code = 0, status.st_size, HTTPStatus.OK
        if wanted := self._range(etag, headers["Last-Modified"], status.st_size):
            start, end = wanted
            if start >= end:
                self._plain(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{status.st_size}"}
                )
                return
            code = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{status.st_size}"
        headers["Content-Type"] = "application/json" if path.endswith(".json") else "application/octet-stream"
        headers["Content-Length"] = str(end - start)
        self._send(code, headers, file, start, end)

    def _unchanged(self, etag: str, mtime: int) -> bool:
        """Whether the client's copy is still right."""
        if (tags := self.headers["If-None-Match"]) is not None:
            return tags.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        if (since := self.headers["If-Modified-Since"]) is not None:
            try:
                return mtime <= parsedate_to_datetime(since).timestamp()
            except (ValueError, OverflowError):
                return False
        return False

    def _range(self, etag: str, modified: str, size: int) -> tuple[int, int] | None:
        """The one range asked for as [start, end); empty if it cannot be met; None for the whole file."""
        match = _RANGE.fullmatch(self.headers.get("Range", "").strip())
        if not match or match[0] == "bytes=-" or self.headers.get("If-Range", etag) not in (etag, modified):
            return None
        if not match[1]:
            return max(0, size - int(match[2])), size
        start = int(match[1])
        if match[2] and int(match[2]) < start:
            return None
        return start, min(int(match[2]) + 1, size) if match[2] else size

    def _plain(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        if status != HTTPStatus.NOT_MODIFIED:
            headers = {**headers, "Content-Length": "0"}
        self._send(status, headers, None, 0, 0)

    def _send(
        self, status: HTTPStatus, headers: dict[str, str], file: BinaryIO | None, start: int, end: int
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        length = end - start if file is not None and self.command == "GET" else 0
        path = self.path.lstrip("/")
        # Counted before the client can have it, so that whoever has it finds it counted.
        self.server.counters.add(Served(self.command, path, status, length))
        sent = 0
        try:
            sent = self._body(file, start, length) if file is not None and length else 0
            self.wfile.flush()
        finally:
            if sent != length:
                self.server.counters.lost(path, length - sent)
                self.close_connection = True  # the file shrank, or the client left
            self.server.log(Served(self.command, path, status, sent))

    def _body(self, file: BinaryIO, start: int, length: int) -> int:
        """Sends that much of the file; returns how much it was."""
        if length <= _INLINE:
            return self.wfile.write(os.pread(file.fileno(), length, start))
        self.wfile.flush()
        sent: int = self.connection.sendfile(file, start, length)
        return sent
