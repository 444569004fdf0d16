"""The HTTP server to which workers send reports: `POST /reports`, and nothing else.

The HTTP status of an answer does not show whether a valid report was counted, so that a sender of false
reports learns nothing. No part of a report is logged or sent back.
"""

import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from lazyfs.core.digits import natural
from lazyfs.core.errors import FormatError, LazyfsError
from lazyfs.core.start_reports.report import MOST_BODY, StartReport, decode
from lazyfs.sync.bounded_server import SECONDS, BoundedHandler, BoundedServer

PATH = "/reports"
RETRY = "3600"
"""The value of the header Retry-After, in seconds. It is sent to a reporter that has sent too many reports,
and to every reporter while the store cannot be read."""

Identify = Callable[[str, Mapping[str, Any] | None, str], str | None]
"""A function of the Authorization header, the verified client certificate (None if there is none) and the
sender's network address. Returns the reporter's name; None for an unknown sender."""


class ReportServer(BoundedServer):
    """Listens for reports and passes them to a function."""

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
        """Listens at once (port 0: any free port). Raises UsageError if the address is not available.

        All functions are called from many threads. `identify`: returns a sender's name (Identify).
        `may_report`: gets the name of a reporter who sends a report; returns False if the reporter has sent
        too many. `take`: gets a report and its reporter. `refused`: gets the reason for which a request was
        refused, in a few words.
        """
        self.identify = identify
        self.may_report = may_report
        self.take = take
        self.refused = refused
        super().__init__(address, _Handler, seconds=seconds, tls=tls)


class _Handler(BoundedHandler):
    server: ReportServer

    def do_POST(self) -> None:  # noqa: N802
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
        """Does nothing: requests are counted and never logged."""

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
