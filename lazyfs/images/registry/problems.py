"""Explains why a connection failed, with a remedy, and says if a retry can help.

A wrong certificate, scheme or name will still be wrong in half a minute, so these fail at once.
"""

import re
import socket
import ssl
from typing import NamedTuple

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    LocationParseError,
    LocationValueError,
    NameResolutionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from lazyfs.core.errors import LazyfsError, TransportError
from lazyfs.core.printable import printable

BROKEN = (HTTPError, OSError, UnicodeError)
"""The exceptions of a request and of reading its answer."""

_NOT_TLS = re.compile(
    "wrong.version.number|record.layer.failure|packet.length.too.long|http.request", re.IGNORECASE
)
_ALERT = re.compile(
    "alert.(certificate.required|bad.certificate|unsupported.certificate|certificate.revoked"
    "|certificate.expired|certificate.unknown|unknown.ca|access.denied)",
    re.IGNORECASE,
)
_DATES = {9: "is not valid yet", 10: "has expired"}
_NAMES = (62, 64)
"""OpenSSL's error numbers (X509_V_ERR_*) for a certificate that is for another host name or address. _DATES
has those for its dates. The numbers are part of OpenSSL's interface."""
_LASTING_NAMES = (socket.EAI_NONAME, socket.EAI_FAIL, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class Problem(NamedTuple):
    """The explanation of one failure."""

    text: str
    hopeless: bool
    """True if another try will fail the same way."""


class Failed(TransportError):
    """A request failed at the registry, or at a server to which the registry redirects."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


def refused(text: str) -> Failed:
    """Returns the failure of a request that the client itself refuses: to an address or redirect that it may
    not follow."""
    return Failed(Problem(text, hopeless=True))


def explain(error: Exception, origin: str) -> Problem:
    """Returns the explanation of an error that a request to `origin` (`https://host:port`) raised."""
    chain = _chain(error)
    proxied = any(isinstance(item, ProxyError) for item in chain)
    for item in chain:
        if isinstance(item, ssl.SSLCertVerificationError):
            return Problem(f"{origin}: {_certificate(item, None if proxied else origin)}", hopeless=True)
        if isinstance(item, ssl.SSLEOFError):
            return Problem(
                f"{origin}: it ends the TLS connection without a word (does it want a client certificate?)",
                hopeless=False,
            )
        if isinstance(item, ssl.SSLError | SSLError) and (problem := _tls(str(item), origin, proxied)):
            return problem
    for item in chain:
        if isinstance(item, socket.gaierror):
            lasting = item.errno in _LASTING_NAMES
            advice = "; is the name right?" if lasting else ""
            return Problem(f"{origin}: {item.strerror}{advice}", hopeless=lasting)
        if isinstance(item, NameResolutionError | ConnectTimeoutError | ReadTimeoutError):
            continue
        if isinstance(item, LocationParseError | LocationValueError | InvalidHeader | UnicodeError):
            return Problem(f"{origin}: {printable(str(item))}", hopeless=True)
    if proxied:
        return _proxy(chain, origin)
    return Problem(f"{origin}: {_innermost(chain)}", hopeless=False)


def _chain(error: BaseException) -> list[BaseException]:
    """Returns the error and its causes: urllib3 wraps http.client's errors, which wrap the system's."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        held = (getattr(following, "reason", None), *following.args[:1])
        inner = next((item for item in held if isinstance(item, BaseException)), None)
        following = inner or following.__cause__ or following.__context__
    return found


def _certificate(error: ssl.SSLCertVerificationError, origin: str | None) -> str:
    """Returns a text for messages: the fault of the certificate of an origin, or of the proxy (None)."""
    whose = "its" if origin else "the proxy's"
    reason = error.verify_message
    if error.verify_code in _DATES:
        return f"{whose} certificate {_DATES[error.verify_code]}: have it renewed, or set the clock right"
    if error.verify_code in _NAMES:
        return f"{whose} certificate is for another name ({reason})"
    place = f", as /etc/containers/certs.d/{origin.partition('://')[2]}/ca.crt" if origin else ""
    return (
        f"{whose} certificate is not trusted ({reason}): install its CA in the system's store{place}, "
        "or name the CA's file in SSL_CERT_FILE"
    )


def _tls(text: str, origin: str, proxied: bool) -> Problem | None:
    host = origin.partition("://")[2]
    if _NOT_TLS.search(text) and proxied:
        return Problem(f"{origin}: the proxy does not speak TLS: name it with http://", hopeless=True)
    if _NOT_TLS.search(text):
        return Problem(
            f"{origin}: it does not speak TLS there: give --plain-http if that is intended", hopeless=True
        )
    if alert := _ALERT.search(text):
        reason = re.sub("[_ ]+", " ", alert[1]).lower()
        return Problem(
            f"{origin}: it does not accept the client certificate, or wants one ({reason}): put it into "
            f"/etc/containers/certs.d/{host}/ as client.cert and client.key",
            hopeless=True,
        )
    return None


def _proxy(chain: list[BaseException], origin: str) -> Problem:
    text = " ".join(str(item) for item in chain)
    if status := re.search(r"Tunnel connection failed: (\d{3})", text):
        if status[1] == "407":
            return proxy_account(origin)
        if status[1] == "403":
            advice = "have it allow CONNECT to this host, or name the host in no_proxy"
            return Problem(f"{origin}: the proxy answers 403: {advice}", hopeless=True)
        return Problem(f"{origin}: the proxy answers {status[1]}", hopeless=False)
    return Problem(f"{origin}: through the proxy: {_innermost(chain)}", hopeless=False)


def proxy_account(origin: str) -> Problem:
    """Returns the explanation for a proxy that answers 407 (it wants an account) on the way to `origin`."""
    variable = f"{origin.partition(':')[0]}_proxy=http://USER:PASSWORD@HOST:PORT"
    text = f"{origin}: the proxy answers 407: it wants another user name and password, or one: {variable}"
    return Problem(text, hopeless=True)


def _innermost(chain: list[BaseException]) -> str:
    for item in reversed(chain):
        if isinstance(item, ReadTimeoutError | ConnectTimeoutError | TimeoutError):
            return "it does not answer in time"
        if isinstance(item, OSError) and item.strerror:
            return printable(item.strerror)
        if isinstance(item, LazyfsError):
            return str(item)
    last = chain[-1]
    if isinstance(last, urllib3.exceptions.IncompleteRead):
        return "the connection ended early"
    return printable(str(last)) or type(last).__name__
