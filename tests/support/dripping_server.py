"""A server whose answers come in drips and have no end: a byte or a line at a time, each before any timeout
of a socket."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from tests.support.tls import Pair

PAUSE = 0.05
"""Seconds between two drips."""


@contextmanager
def dripping(
    answers: Sequence[bytes],
    drip: bytes,
    *,
    seconds: float = 20.0,
    certificate: Pair | None = None,
    asked: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """Runs the server on a loopback port; yields its HOST:PORT. For each of `answers` it reads once and sends
    it; then it sends `drip` again and again for `seconds` and closes the connection. `certificate`: of the
    server, to speak TLS. `asked`: called each time that it has read something."""
    ended = threading.Event()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                for one in answers:
                    connection.recv(1 << 16)
                    asked()
                    connection.sendall(one)
                for _ in range(int(seconds / PAUSE)):
                    if ended.wait(PAUSE):
                        return
                    connection.sendall(drip)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
