"""A receiver of webhooks, with or without TLS, whose answers the test chooses."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.support.tls import Pair


class Received(NamedTuple):
    """One webhook."""

    path: str
    fields: dict[str, str]
    """Header fields; the names are in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HookReceiver:
    """The webhooks received so far, and the settings of the answers."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.statuses: list[int] = []
        """Statuses of the next answers, in order. All further answers are 204."""
        self.location = ""
        """The Location of the answers, for redirects."""
        self.go_on = threading.Event()
        """While this event is cleared, answers wait. It is set at first."""
        self.go_on.set()


@contextmanager
def hook_receiver(certificate: Pair | None = None) -> Iterator[HookReceiver]:
    """Runs a receiver on a loopback port: over TLS if `certificate` is given."""
    receiver = HookReceiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fields = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, fields, body))
            receiver.go_on.wait(60)
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Prints no error: clients that do not trust the certificate are part of the tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        receiver.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.go_on.set()
            server.shutdown()
            thread.join()
