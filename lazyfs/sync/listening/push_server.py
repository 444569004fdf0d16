"""The HTTP server that webhooks are sent to: `POST /hooks/NAME`, and nothing else.

No part of a request's body is logged or sent back: names of registries' repositories may be private.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from lazyfs.core.digits import natural
from lazyfs.core.errors import FormatError
from lazyfs.core.webhooks.proofs import proven
from lazyfs.core.webhooks.pushes import MOST_BODY, pushes_of
from lazyfs.sync.bounded_server import SECONDS, BoundedHandler, BoundedServer
from lazyfs.sync.listening.push_queue import PushQueue

PATH = "/hooks/"
RETRY = "60"
"""Seconds after which a sender of webhooks should try again if the queue of pushes is full."""


class PushSource(NamedTuple):
    """One sender of webhooks."""

    kind: str
    registry: str
    """The registry whose pushes the sender reports, named as in wishes."""
    secret: str


class PushServer(BoundedServer):
    """Listens for webhooks and puts the pushes into a queue."""

    def __init__(
        self,
        address: tuple[str, int],
        sources: Mapping[str, PushSource],
        queue: PushQueue,
        wall: Callable[[], float],
        *,
        told: Callable[[str, int], None] = lambda _name, _status: None,
        seconds: float = SECONDS,
    ) -> None:
        """Listens at once (port 0: any free port). `sources`: name in the path -> sender. `told`: called from
        many threads, with the sender's name and the status of each answer. Raises UsageError if the address
        is not available."""
        self.sources = sources
        self.queue = queue
        self.wall = wall
        self.told = told
        super().__init__(address, _Handler, seconds=seconds)


class _Handler(BoundedHandler):
    server: PushServer

    def do_POST(self) -> None:  # noqa: N802
        name = self.path.removeprefix(PATH) if self.path.startswith(PATH) else ""
        source = self.server.sources.get(name)
        if source is None:
            self._answer("", HTTPStatus.NOT_FOUND)
            return
        length = natural(self.headers.get("Content-Length", ""))
        if length is None or "Transfer-Encoding" in self.headers:
            self._answer(name, HTTPStatus.LENGTH_REQUIRED)
            return
        if length > MOST_BODY:
            self._answer(name, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(length)
        if len(body) < length:
            self._answer(name, HTTPStatus.BAD_REQUEST)
            return
        self._answer(name, self._take(source, body))

    def _take(self, source: PushSource, body: bytes) -> HTTPStatus:
        """Puts the pushes in a request's body into the queue; returns the status of the answer. The status
        does not show whether an image is wished: senders need not learn that."""
        server = self.server
        if not proven(source.kind, source.secret, self._field, body, server.wall()):
            return HTTPStatus.UNAUTHORIZED
        try:
            pushes = pushes_of(source.kind, source.registry, body)
        except FormatError:
            return HTTPStatus.BAD_REQUEST
        return HTTPStatus.ACCEPTED if server.queue.offer(pushes) else HTTPStatus.SERVICE_UNAVAILABLE

    def _field(self, name: str) -> str:
        return str(self.headers.get(name, ""))

    def _refuse(self) -> None:
        self._answer("", HTTPStatus.METHOD_NOT_ALLOWED)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Does nothing: PushServer's function `told` gets the sender's name and the status."""

    def _answer(self, name: str, status: HTTPStatus) -> None:
        self.close_connection = True
        self.server.told(name, status)
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "POST")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", RETRY)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
