"""TLS on a connected socket, within the limits that an attempt's guard sets (`guard`): a handshake can hang
and trickle too."""

import ssl
import time
from typing import Any

from urllib3.util.ssltransport import SSLTransport

from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.transport.guard import SLICE, Guard
from lazyfs.transport.tls import Tls
from lazyfs.transport.tls_faults import Peer


def secure(
    sock: Any, host: str, port: int, tls: Tls, guard: Guard, *, until: float | None, tunnelled: bool
) -> Any:
    """Returns a socket that speaks TLS over `sock`, which it takes over. The peer's certificate is verified
    for `host`.

    `sock` is a socket or, through a proxy that speaks TLS itself, an SSLSocket. `until`: the handshake's
    deadline on time.monotonic()'s clock, beside the guard's own limits. `tunnelled`: True for an origin
    behind a proxy's tunnel. Raises AttemptFailed, or the guard's exceptions.
    """
    peer = Peer(host, port, tls, tunnelled=tunnelled)

    def check() -> None:
        guard.check()
        if until is not None and time.monotonic() >= until:
            raise AttemptFailed(Fault.CONNECT, f"{peer.where}: TLS handshake unfinished")

    try:
        return _shake(sock, host.rstrip("."), tls.context(), check)
    except ssl.SSLCertVerificationError as error:
        raise peer.unverified(error.verify_code, error.verify_message) from error
    except ssl.SSLError as error:
        raise peer.failed(str(error)) from error
    except OSError as error:
        raise peer.failed(f"{error.strerror or error} during the handshake") from error


def _shake(sock: Any, host: str, context: ssl.SSLContext, check: Any) -> Any:
    sock.settimeout(SLICE)
    if isinstance(sock, ssl.SSLSocket):
        patient = _Patient(sock, check)
        inner = SSLTransport(patient, context, server_hostname=host)  # type: ignore[arg-type]
        inner.socket = sock
        return inner
    wrapped = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                wrapped.do_handshake()  # its timeout counts for the whole call
                return wrapped
            except TimeoutError:
                check()
    except BaseException:
        wrapped.close()
        raise


class _Patient:
    """An SSLSocket that asks the guard while it waits. SSLTransport needs such a socket, because it makes its
    handshake in one call."""

    def __init__(self, sock: ssl.SSLSocket, check: Any) -> None:
        self._sock = sock
        self._check = check

    def recv(self, size: int) -> bytes:
        while True:
            try:
                received = self._sock.recv(size)
            except TimeoutError:
                self._check()
                continue
            self._check()
            return received

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)
