"""TLS as libcurl is told of it, and as it tells of it."""

import re
import urllib.parse
from typing import TYPE_CHECKING, Any

import pycurl

from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.core.chain.notation import redact
from lazyfs.transport.attempt import Attempt
from lazyfs.transport.tls_faults import Peer, untunnelled

if TYPE_CHECKING:
    from lazyfs.transport.tls import Tls

_TLS_ERRORS = (pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CERTPROBLEM)
_NOWHERE = "/proc/self/fd/none"
"""A directory that nobody can make."""


def believe(easy: Any, tls: "Tls") -> None:
    """For origins and proxies alike. A directory is always named: libcurl was built to look into its own."""
    named = {"CAINFO": tls.ca_file, "CAPATH": tls.ca_directory or _NOWHERE}
    named |= {"SSLCERT": tls.identity_file, "SSLKEY": tls.identity_file}
    for name, value in named.items():
        if value is not None:
            easy.setopt(getattr(pycurl, name), value)
            easy.setopt(getattr(pycurl, f"PROXY_{name}"), value)


def place(url: str) -> tuple[str, int]:
    """Host and port."""
    parts = urllib.parse.urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def unsecured(code: int, text: str, easy: Any, attempt: Attempt, peer: Peer) -> AttemptFailed | None:
    """What TLS, or the tunnel it needs, says; None if it was neither."""
    refused = easy.getinfo(pycurl.HTTP_CONNECTCODE)
    if attempt.proxy and refused >= 300:
        return untunnelled(redact(attempt.proxy), refused, "{}:{}".format(*place(attempt.url)))
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        if "subject name" in text:  # names are compared by libcurl itself, once OpenSSL is content
            return peer.unverified(62, text)
        found = easy.getinfo(pycurl.SSL_VERIFYRESULT if peer.tunnelled else pycurl.PROXY_SSL_VERIFYRESULT)
        found = found or easy.getinfo(pycurl.SSL_VERIFYRESULT)
        return peer.unverified(found, re.sub(r".*(problem|result): | \(\d+\)$", "", text))
    if code == pycurl.E_SSL_CACERT_BADFILE:  # of libcurl's own, where there are no CAs at all
        return peer.unverified(20, "unable to get local issuer certificate")
    if code in _TLS_ERRORS:
        return peer.failed(text)
    if (
        code == pycurl.E_RECV_ERROR
    ):  # TLS 1.3 refuses clients late; an end without close_notify is only an end
        failure = peer.failed(text)
        return None if failure.fault is Fault.TLS else failure
    return None
