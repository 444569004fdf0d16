"""Faults of TLS, with the same text for every library: the peer, the reason, and the remedy."""

import re
from typing import TYPE_CHECKING

from lazyfs.core.chain.faults import AttemptFailed, Fault, of_status
from lazyfs.transport.response_head import MENDS

if TYPE_CHECKING:  # ssl takes 10 ms to import, and most sites speak http
    from lazyfs.transport.tls import Tls

_TIME = {9: "is not valid yet", 10: "has expired"}
"""The texts for OpenSSL's error codes of certificates outside of their validity period. The codes
(X509_V_ERR_* in <openssl/x509_vfy.h>) are part of OpenSSL's interface."""
_NAME = (62, 64)
_ISSUER = (2, 18, 19, 20, 21, 27)

_NOT_TLS = "wrong version number|record layer failure|packet length too long|http request"
_ALERT = (
    r"alert (certificate required|no certificate|bad certificate|unsupported certificate|certificate revoked"
    r"|certificate expired|certificate unknown|unknown ca|access denied)"
)
_WANTS_TLS = rb"plain HTTP request was sent to HTTPS|plain HTTP to an SSL-enabled|HTTP request to an HTTPS"
"""Texts in the body of a 400 by which nginx, Apache and Go's servers tell that a request without TLS came to
a port for TLS."""
_WANTS_CERTIFICATE = b"SSL certificate"
"""Texts in the body of a 400 by which nginx refuses a client: `No required SSL certificate was sent`, `The
SSL certificate error`."""


class Peer:
    """The other end of a TLS connection, for messages."""

    def __init__(self, host: str, port: int, tls: "Tls | None", *, tunnelled: bool = False) -> None:
        """`tunnelled`: True for an origin behind a proxy's tunnel."""
        self.where = f"{host} port {port}"
        self._host = host
        self._tls = tls
        self.tunnelled = tunnelled

    def _failed(self, fault: Fault, detail: str) -> AttemptFailed:
        return AttemptFailed(fault, f"{self.where}: {detail}", by_origin=self.tunnelled)

    def unverified(self, code: int, reason: str) -> AttemptFailed:
        """Returns the failure of a peer whose certificate is not valid. `code`, `reason`: the number and the
        text of OpenSSL's error."""
        if code in _TIME:
            return self._failed(
                Fault.EXPIRED, f"it {_TIME[code]}; have it renewed, or set this node's clock right"
            )
        if code in _NAME:
            return self._failed(
                Fault.MISNAMED, f"it is not for {self._host}; write a name that it is for in the URL"
            )
        notes = "".join(f"; {note}" for note in self._tls.notes) if self._tls else ""
        if code in _ISSUER:
            mend = "name its CA's file with --ca, or install the CA in the system's store"
            return self._failed(Fault.UNTRUSTED, f"{reason.lower()}; {mend}{notes}")
        return self._failed(Fault.UNTRUSTED, f"{reason.lower()}{notes}")

    def failed(self, text: str) -> AttemptFailed:
        """Returns the failure of TLS for this error text of OpenSSL."""
        plain = text.lower().replace("_", " ")
        alert = re.search(_ALERT, plain)
        if alert:
            return self.identity(alert[1])
        if re.search(_NOT_TLS, plain):
            return self._failed(
                Fault.SCHEME, "it does not speak TLS there; write http:// or the port that does"
            )
        return self._failed(Fault.TLS, text[:200])

    def identity(self, reason: str) -> AttemptFailed:
        """Returns the failure of a peer that refuses our client certificate, or that demands one."""
        mend = (
            "it did not accept ours (--client-cert)"
            if self._tls and self._tls.identified
            else "it wants one: --client-cert FILE"
        )
        return self._failed(Fault.IDENTITY, f"{mend} ({reason})")

    def refined(self, refusal: AttemptFailed, page: bytes) -> AttemptFailed:
        """Returns a more exact failure if the body of an HTTP refusal states one; otherwise the refusal
        itself."""
        if re.search(_WANTS_TLS, page):
            better = self._failed(Fault.SCHEME, "it speaks TLS there; write https://")
        elif _WANTS_CERTIFICATE in page:
            better = self.identity(str(refusal))
        else:
            return refusal
        better.by_origin = True  # a proxy that passes a page on did not write it
        return better


def untunnelled(proxy: str, status: int, origin: str) -> AttemptFailed:
    """Returns the failure of a proxy that made no tunnel."""
    said = f"HTTP {status} to CONNECT {origin}"
    fault = of_status(status)
    if fault in (Fault.UNAVAILABLE, Fault.SERVER_ERROR, Fault.THROTTLED) and status != 501:
        return AttemptFailed(fault, said)
    if fault is Fault.PROXY_ACCOUNT:
        return AttemptFailed(fault, MENDS[fault])
    return AttemptFailed(
        Fault.TUNNEL,
        f"{proxy}: {said}; have the proxy allow CONNECT to it, or use http:// to let it cache",
    )
