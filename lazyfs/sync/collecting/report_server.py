"""The HTTP server that workers report to: `POST /reports`, and nothing else.

The status of an answer does not tell if a report was counted: a liar need not learn that. No part of a
report is logged or sent back.
"""

import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from lazyfs.core.digits import natural
from lazyfs.core.errors import FormatError, LazyfsError
from lazyfs.core.start_reports.report import MOST_BODY, StartReport, decode
from lazyfs.sync.bounded_server import SECONDS, BoundedServer

PATH = "/reports"
RETRY = "3600"
"""Seconds after which a reporter that has sent too many, or came at a bad moment, may try again."""

Identify = Callable[[str, Mapping[str, Any] | None, str], str | None]
"""Takes the Authorization header, the checked client certificate and the address; returns the reporter."""


class ReportServer(BoundedServer):
    """Listens for reports and hands them on."""

    def __init__(
        self,
        address: tuple[str, int],
        identify: Identify,
        may_report: Callable[[str], bool],
        take: Callable[[StartReport, str], object],
        refused: Callable[[str], None],
        *,
        tls: ssl.SSLContext | None = None,
        seconds: float = SECONDS,
    ) -> None:
        """Listens at once (port 0: any free port). All functions are called from many threads. `may_report`
        counts a reporter's report, and returns False if there are too many. `take` gets a report and its
        reporter. `refused` is told why a request was refused, in a word or two. Raises UsageError if the
        address is not available."""
        self.identify = identify
        self.may_report = may_report
        self.take = take
        self.refused = refused
        super().__init__(address, _Handler, seconds=seconds, tls=tls)


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    protocol_version = "HTTP/1.1"
    server_version = "lazyfs"
    sys_version = ""

    def do_POST(self) -> None:
        server = self.server
        if self.path != PATH:
            self._answer(HTTPStatus.NOT_FOUND, "no such path")
            return
        # Asked before the body is read: a stranger costs a header.
        certificate = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        address = str(self.client_address[0])
        reporter = server.identify(str(self.headers.get("Authorization", "")), certificate, address)
        if reporter is None:
            self._answer(HTTPStatus.UNAUTHORIZED, "stranger")
            return
        length = natural(self.headers.get("Content-Length", ""))
        if length is None or "Transfer-Encoding" in self.headers:
            self._answer(HTTPStatus.LENGTH_REQUIRED, "without a length")
            return
        if length > MOST_BODY:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large")
            return
        if not server.may_report(reporter):
            self._answer(HTTPStatus.TOO_MANY_REQUESTS, "too often")
            return
        body = self.rfile.read(length)
        if len(body) < length:
            self._answer(HTTPStatus.BAD_REQUEST, "cut off")
            return
        self._take(body, reporter)

    def _take(self, body: bytes, reporter: str) -> None:
        try:
            report = decode(body)
        except FormatError:
            self._answer(HTTPStatus.BAD_REQUEST, "malformed")
            return
        try:
            self.server.take(report, reporter)
        except LazyfsError:  # the store cannot be read now
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "store not readable")
            return
        self._answer(HTTPStatus.ACCEPTED, "")

    def _refuse(self) -> None:
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "no report")

    do_GET = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Does nothing: counters tell."""

    def _answer(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True
        if reason:
            self.server.refused(reason)
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "POST")
        if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
            self.send_header("Retry-After", RETRY)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
