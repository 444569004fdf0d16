"""An HTTP origin for one machine: the files of a store, and nothing else.

Answers GET and HEAD for data/ and metadata/ with Range (one range), If-Range, If-None-Match and
If-Modified-Since (RFC 9110). In production, nginx or a bucket takes its place.
"""

import os
import re
from collections.abc import Callable
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import BinaryIO

from lazyfs.core.digits import natural
from lazyfs.core.trust.roles import CHANGING_FILES, TIMESTAMP_KEPT
from lazyfs.store.request_counters import Counters, Served
from lazyfs.store.served_files import check_store, open_file
from lazyfs.system.listening_server import ListeningServer

FOREVER = "public, max-age=31536000, immutable"
TIMESTAMP_CACHE = f"public, max-age={TIMESTAMP_KEPT}"
"""Cache-Control of the timestamp. A cache hides a new revision for TIMESTAMP_KEPT seconds at most, and all
workers behind one cache together cause at most two requests for the timestamp a minute."""

MISSING_METADATA_CACHE = "public, max-age=60"
"""Cache-Control of the answer that a file of metadata does not exist. Before each new revision a client asks
for the next root file, which is rarely there; with this field a proxy may repeat that answer."""

_CHANGING = {f"metadata/{name}" for name in CHANGING_FILES}
IDLE_SECONDS = 75
_INLINE = 1 << 16
"""Bodies up to this size go out in one send with their header; larger ones go by sendfile(2)."""

_PATH = re.compile(r"/((?:data|metadata)(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*){1,8})")
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")


class Origin(ListeningServer):
    """The server of one store; a thread for each connection."""

    request_queue_size = 256

    def __init__(
        self, store: str, host: str = "127.0.0.1", port: int = 0, log: Callable[[Served], None] | None = None
    ) -> None:
        """Listens at once (port 0: any free port). `log` is called after each answer, from many threads.

        Raises UsageError if the address is not available, or if the directory `store` is not a store or has
        private keys in it.
        """
        self.store = os.path.abspath(store)
        check_store(self.store)
        self.counters = Counters()
        self.log = log or (lambda _served: None)
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Origin
    protocol_version = "HTTP/1.1"
    server_version = "lazyfs"
    sys_version = ""
    timeout = IDLE_SECONDS
    wbufsize = -1  # header and small body go out in one send
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        """Parses a request. If it has a body, the connection is closed after the answer: the unread body
        would be taken for the next request."""
        parsed: bool = super().parse_request()
        if parsed and any(
            name in self.headers for name in ("Content-Length", "Transfer-Encoding", "Upgrade")
        ):
            self.close_connection = True
        return parsed

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
        """Does nothing: Origin.log does the logging."""

    def _open(self, path: str) -> BinaryIO | None:
        """Opens the regular file at `path` in the store; returns None if that fails. Follows no link, because
        a link could lead out of the store."""
        try:
            return open(open_file(self.server.store, path), "rb", buffering=0)
        except OSError:
            return None

    def _file(self, file: BinaryIO, status: os.stat_result) -> None:
        path = self.path[1:]
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = {
            "ETag": etag,
            "Last-Modified": formatdate(int(status.st_mtime), usegmt=True),
            "Cache-Control": TIMESTAMP_CACHE if path in _CHANGING else FOREVER,
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
        """Returns True if the request says that the client has a copy, and the copy is still right. `etag`,
        `mtime`: those of the file."""
        if (tags := self.headers["If-None-Match"]) is not None:
            return tags.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        if (since := self.headers["If-Modified-Since"]) is not None:
            try:
                return mtime <= parsedate_to_datetime(since).timestamp()
            except (ValueError, OverflowError, OSError):
                return False
        return False

    def _range(self, etag: str, modified: str, size: int) -> tuple[int, int] | None:
        """Returns (start, end) of the requested range, `end` excluded; an empty range if the file does not
        have it. Returns None if the whole file is to be sent. `etag`, `modified`: the file's ETag and
        Last-Modified, to be compared with If-Range."""
        match = _RANGE.fullmatch(self.headers.get("Range", "").strip())
        if not match or match[0] == "bytes=-" or self.headers.get("If-Range", etag) not in (etag, modified):
            return None
        start, last = natural(match[1]), natural(match[2])
        if start is None:
            return max(0, size - (last or 0)), size
        if last is None:
            return start, size
        return (start, min(last + 1, size)) if last >= start else None

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
        if not path.isprintable():
            path = ascii(path)[1:-1]  # the text goes to logs, and so to terminals
        # Counted before it is sent, so that a client that has the answer finds it counted.
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
        """Sends `length` bytes of the file; returns the number sent."""
        if length <= _INLINE:
            return self.wfile.write(os.pread(file.fileno(), length, start))
        self.wfile.flush()
        sent: int = self.connection.sendfile(file, start, length)
        return sent
