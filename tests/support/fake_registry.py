"""A registry that misbehaves on request: pages, rate limits, expiring tokens, dying connections, lies."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.oci_images import Built
from tests.support.tls import Pair


class FakeRegistry:
    """A registry with one repository, `team/app`. Its attributes switch misbehaviours on."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.tags: list[str] = []
        self.page = 1000
        self.link = ""
        """The Link header of tag lists, in place of the right one; empty for the right one."""
        self.limited = 0
        """The number of requests still to be answered with 429."""
        self.limit_every = 0
        """Every n-th request is answered with 429; 0 for none."""
        self.retry_after = "0"
        self.errors = 0
        """The number of blob requests still to be answered with 503."""
        self.cut: list[int] = []
        """The numbers of bytes after which the next answers with large blobs break off, in order."""
        self.ranges = True
        self.tokens = False
        """True if every request needs a bearer token."""
        self.token_uses = 1_000_000
        """The number of requests for which a token is valid."""
        self.accounts: dict[str, str] = {}
        """The keys are the Authorization headers that the token server accepts. If there are none, everyone
        gets a token."""
        self.stop_after = 0
        """If not 0, an answer with a large blob pauses after this number of bytes, until `go_on` is set."""
        self.go_on = threading.Event()
        self.pages = 1
        """The number of pages of a list of tags, if `tag_list` is set. Each page has the content
        `tag_list`."""
        self.unknown_manifest = b"{}"
        """The body of the 404 for a missing manifest."""
        self.tag_list: bytes | None = None
        self.page_faults: dict[int, tuple[int, bytes, int | None]] = {}
        """Number of a page of tags (from 1) -> (status, body, the number of bytes after which the answer
        breaks off; None for a whole answer)."""
        self.token_answer: bytes | None = None
        self.content_range = ""
        """The Content-Range of blob answers, in place of the right one; empty for the right one."""
        self.basic = False
        """True if every request needs Basic authentication, without a token server."""
        self.nobody: dict[str, int] = {}
        """Kind of path (`manifests`, `blobs`, `blobs/sha256:...`) -> the status that requests without an
        account get."""
        self.reason = b""
        """The body of refusals: those by `nobody` and those of the token server."""
        self.token_errors: list[int] = []
        """Statuses of the token server's next answers, in order; then it answers normally."""
        self.storage = ""
        """If not empty, blob requests are redirected to this address with the blob's digest appended."""
        self.authorizations: list[tuple[str, str]] = []
        """(path, Authorization header) of each request."""
        self.fields: list[str] = []
        """The values of all header fields of all requests."""
        self.post_error = 0
        """The status with which the token server refuses every posted form; 0 to accept them."""
        self.forms: list[dict[str, list[str]]] = []
        """Forms posted to the token server. A refresh token in a form yields a token with the account's
        rights."""
        self.api_moved = ""
        """If not empty, requests for the API's root are redirected to this address."""
        self.extra: dict[str, str] = {}
        """Header fields that every answer has in addition."""
        self.no_head = 0
        """The status of every answer to HEAD, as from a server that does not support HEAD; 0 if it does."""
        self.requests: list[str] = []
        self.ranges_asked: list[str] = []
        self.tokens_given = 0
        self._counted = 0
        self._uses: dict[str, int] = {}
        self._lock = threading.Lock()
        self.host = ""
        self.scheme = "http"

    def add(self, image: Built, tag: str) -> None:
        """Serves an image under a tag and under its digest."""
        self.blobs |= image.blobs
        self.serve(tag, image.manifest["mediaType"], image.blobs[image.manifest["digest"]])
        self.serve(
            image.manifest["digest"], image.manifest["mediaType"], image.blobs[image.manifest["digest"]]
        )

    def serve(self, name: str, kind: str, data: bytes) -> None:
        """Serves a manifest under a tag or digest."""
        self.manifests[name] = kind, data
        if not name.startswith("sha256:"):
            self.tags.append(name)

    def count(self, pattern: str) -> int:
        """Returns the number of requests whose path matches the regular expression."""
        return sum(bool(re.search(pattern, line)) for line in self.requests)

    def take(self, name: str) -> bool:
        """Subtracts 1 from the counter attribute `name`. Returns True if it was above 0: the request must
        misbehave."""
        with self._lock:
            left: int = getattr(self, name)
            setattr(self, name, max(left - 1, 0))
            return left > 0

    def limits_this(self) -> bool:
        """Counts a request. Returns True if the request is a `limit_every`-th one and so must be refused."""
        with self._lock:
            self._counted += 1
            return bool(self.limit_every) and self._counted % self.limit_every == 0

    def new_token(self, owner: str = "") -> str:
        with self._lock:
            self.tokens_given += 1
            token = f"{owner}token-{self.tokens_given}"
            self._uses[token] = self.token_uses
            return token

    def use(self, header: str) -> bool:
        """Counts one use of the bearer token in an Authorization header; returns True if the token was still
        valid."""
        with self._lock:
            token = header.removeprefix("Bearer ")
            left = self._uses.get(token, 0)
            self._uses[token] = left - 1
            return left > 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: FakeRegistry

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        registry = self.registry
        registry.requests.append(self.path)
        sent = self.headers.get("Authorization", "")
        registry.authorizations.append((self.path, sent))
        registry.fields += self.headers.values()
        if registry.no_head and self.command == "HEAD":
            return self._answer(registry.no_head, b"")
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/token":
            return self._token()
        if path == "/v2/" and registry.api_moved:
            return self._answer(302, b"", {"Location": registry.api_moved})
        if registry.take("limited") or registry.limits_this():
            return self._answer(429, b"", {"Retry-After": registry.retry_after})
        if registry.tokens and not registry.use(sent):
            realm = (
                f'Bearer realm="{registry.scheme}://{registry.host}/token",service="fake",'
                'scope="repository:team/app:pull"'
            )
            return self._answer(401, registry.reason, {"WWW-Authenticate": realm})
        known = sent in registry.accounts or sent.startswith("Bearer account-")
        if registry.basic and not known:
            return self._answer(401, registry.reason, {"WWW-Authenticate": 'Basic realm="fake"'})
        for kind, status in registry.nobody.items():
            if f"/{kind}" in path and not known:
                challenge = {} if registry.tokens else {"WWW-Authenticate": 'Basic realm="fake"'}
                return self._answer(status, registry.reason, challenge if status == 401 else {})
        if path == "/v2/" and registry.accounts:
            return self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="fake"'})
        if path == "/v2/team/app/tags/list":
            return self._tags(query)
        if match := re.fullmatch("/v2/team/app/manifests/(.+)", path):
            return self._manifest(match[1])
        if match := re.fullmatch("/v2/team/app/blobs/(.+)", path):
            return self._blob(match[1])
        return self._answer(404, b"")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.registry.forms.append(form)
        if self.registry.post_error:
            return self._answer(self.registry.post_error, b"")
        token = self.registry.new_token("account-" if "refresh_token" in form else "")
        return self._answer(200, json.dumps({"access_token": token}).encode())

    def _token(self) -> None:
        registry = self.registry
        if registry.token_errors and (error := registry.token_errors.pop(0)) != 200:
            return self._answer(error, b"<html>busy</html>")
        sent = self.headers.get("Authorization", "")
        if registry.accounts and sent not in registry.accounts and (sent or not registry.nobody):
            return self._answer(401, registry.reason)
        if registry.token_answer is not None:
            return self._answer(200, registry.token_answer)
        token = registry.new_token("account-" if sent in registry.accounts else "")
        return self._answer(200, json.dumps({"token": token}).encode())

    def _tags(self, query: dict[str, list[str]]) -> None:
        if self.registry.tag_list is not None:
            number = self.registry.count("tags/list")
            link = {"Link": f'</v2/team/app/tags/list?page={number}>; rel="next"'}
            return self._answer(200, self.registry.tag_list, link if number < self.registry.pages else {})
        tags = sorted(self.registry.tags)
        start = tags.index(query["last"][0]) + 1 if "last" in query else 0
        if fault := self.registry.page_faults.get(start // self.registry.page + 1):
            status, body, cut = fault
            return self._answer(status, body, cut=cut)
        page = tags[start : start + self.registry.page]
        more = start + len(page) < len(tags)
        link = {"Link": f'</v2/team/app/tags/list?n=9&last={page[-1]}>; rel="next"'} if more else {}
        if self.registry.link:
            link = {"Link": self.registry.link}
        return self._answer(200, json.dumps({"name": "team/app", "tags": page}).encode(), link)

    def _manifest(self, name: str) -> None:
        if name not in self.registry.manifests:
            return self._answer(404, self.registry.unknown_manifest)
        kind, data = self.registry.manifests[name]
        return self._answer(200, data, {"Content-Type": kind})

    def _blob(self, digest: str) -> None:
        registry = self.registry
        if registry.take("errors"):
            return self._answer(503, b"")
        if registry.storage:
            return self._answer(307, b"", {"Location": f"{registry.storage}{digest}"})
        data = registry.blobs.get(digest)
        if data is None:
            return self._answer(404, b"")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        status, headers, start = 200, {}, 0
        if asked:
            registry.ranges_asked.append(asked[0])
        if asked and registry.ranges:
            start = int(asked[1])
            stated = registry.content_range or f"bytes {start}-{len(data) - 1}/{len(data)}"
            status, headers = 206, {"Content-Range": stated}
        cut = registry.cut.pop(0) if registry.cut and len(data) > 100_000 else None
        return self._answer(status, data[start:], headers, cut)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**self.registry.extra, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with suppress(ConnectionError):  # the client has closed the connection
            if self.registry.stop_after and len(body) > 100_000:
                self.wfile.write(body[: self.registry.stop_after])
                self.registry.go_on.wait(10)
                body = body[self.registry.stop_after :]
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is None:
            return super().finish_request(request, client_address)
        wrapped = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with wrapped:
            try:
                wrapped.do_handshake()
            except ssl.SSLError:
                wrapped.shutdown(socket.SHUT_WR)  # read the rest of the data, so that no reset
                while wrapped.recv(4096):  # overtakes the alert
                    pass
                return None
            return super().finish_request(wrapped, client_address)

    def handle_error(self, *_: Any) -> None:
        """Prints no error: clients that go away in the middle of a request are part of the tests."""


@contextmanager
def fake_registry(certificate: Pair | None = None, client_ca: Path | None = None) -> Iterator[FakeRegistry]:
    """Runs a fake registry on a loopback port, over TLS if `certificate` is given. With `client_ca`, it
    accepts only clients with a certificate of that CA."""
    registry = FakeRegistry()
    handler = type("Handler", (_Handler,), {"registry": registry})
    with _Server(("127.0.0.1", 0), handler) as server:
        registry.host = f"127.0.0.1:{server.server_address[1]}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)
            if client_ca:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
            server.tls = context
            registry.scheme = "https"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


def in_seconds(seconds: float) -> str:
    """Returns the time `seconds` from now as an HTTP date, for a Retry-After header."""
    return formatdate(time.time() + seconds, usegmt=True)
