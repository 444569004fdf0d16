"""A reverse proxy in front of a registry, as sites have one. It can limit the rate, page lists of tags, be
slow, or break every connection."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PASSED_ON = ("Accept", "Authorization", "Range")
_NOT_PASSED_BACK = ("connection", "content-length", "date", "transfer-encoding")


class Door:
    """A proxy in front of a registry. Its attributes can be changed while it runs."""

    def __init__(self, behind: str, seen: Callable[[], None]) -> None:
        self.behind = behind
        """host:port of the registry."""
        self.host = ""
        self.limited = False
        """True to answer the first, third, fifth... request for each path with 429."""
        self.page = 0
        """The number of tags on one page of a list; 0 for all."""
        self.delay = 0.0
        """Seconds before each answer begins, like a round-trip time."""
        self.down = False
        """True to break each connection without an answer."""
        self.requests: list[str] = []
        """Requests that were passed on to the registry, as `GET /v2/... 200`."""
        self.refused = 0
        self._seen = seen
        self._asked: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self) -> list[str]:
        """Returns the requests that were passed on since the last call."""
        with self._lock:
            taken, self.requests = self.requests, []
        return taken

    def limits(self, line: str) -> bool:
        """Counts a request; returns True if it must be answered with 429."""
        self._seen()
        with self._lock:
            self._asked[line] = self._asked.get(line, 0) + 1
            refused = self.limited and self._asked[line] % 2 == 1
            self.refused += refused
        return refused

    def answered(self, line: str, status: int) -> None:
        """Logs a request that was passed on."""
        with self._lock:
            self.requests.append(f"{line} {status}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    door: Door

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        door = self.door
        time.sleep(door.delay)
        if door.down:
            self.close_connection = True
            return
        line = f"{self.command} {self.path}"
        if door.limits(line):
            self._answer(429, [("Retry-After", "1")], b"")
            return
        status, fields, body = self._fetched()
        door.answered(line, status)
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if door.page and path.endswith("/tags/list") and status == 200:
            fields, body = self._paged(path, query.get("last", [""])[0], fields, body)
        self._answer(status, fields, body)

    do_HEAD = do_GET  # noqa: N815

    def _fetched(self) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.door.behind, timeout=30)
        sent = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        try:
            connection.request(self.command, self.path, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _paged(
        self, path: str, last: str, fields: list[tuple[str, str]], body: bytes
    ) -> tuple[list[tuple[str, str]], bytes]:
        document = json.loads(body)
        tags = [tag for tag in sorted(document["tags"]) if tag > last]
        document["tags"] = tags[: self.door.page]
        if len(tags) > self.door.page:
            fields = [*fields, ("Link", f'<{path}?last={document["tags"][-1]}>; rel="next"')]
        return fields, json.dumps(document).encode()

    def _answer(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        length = str(len(body))
        for name, value in fields:
            if name.lower() not in _NOT_PASSED_BACK:
                self.send_header(name, value)
            elif name.lower() == "content-length" and self.command == "HEAD":
                length = value
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """Prints no error: clients that are killed in the middle of a request are part of the tests."""


@contextmanager
def door_to(behind: str, seen: Callable[[], None] = lambda: None) -> Iterator[Door]:
    """Runs a door on a loopback port; `seen` is called at each request."""
    door = Door(behind, seen)
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"door": door})) as server:
        door.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield door
        finally:
            server.shutdown()
            thread.join()
