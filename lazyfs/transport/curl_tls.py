"""TLS settings for libcurl, and the meaning of its TLS errors."""

import functools
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
"""A directory that cannot exist."""


def believe(easy: Any, tls: "Tls") -> None:
    """Sets the trusted CAs and the client certificate, for origins and proxies alike. If no directory of CAs
    is trusted, sets one that cannot exist, because libcurl would otherwise use the directory that it was
    built with."""
    named = {"CAINFO": tls.ca_file, "CAPATH": tls.ca_directory or _NOWHERE}
    named |= {"SSLCERT": tls.identity_file, "SSLKEY": tls.identity_file}
    for name, value in named.items():
        if value is not None:
            easy.setopt(getattr(pycurl, name), value)
            easy.setopt(getattr(pycurl, f"PROXY_{name}"), value)


def place(url: str) -> tuple[str, int]:
    """Returns host and port of a URL."""
    path = url.find("/", len("https://"))
    return _place(url if path < 0 else url[:path])


@functools.lru_cache(maxsize=256)
def _place(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def unsecured(code: int, text: str, easy: Any, attempt: Attempt, peer: Peer) -> AttemptFailed | None:
    """Returns the failure of TLS, or of the tunnel that it needs; None if the failure was neither. `code`,
    `text`: those with which libcurl ended the transfer."""
    refused = easy.getinfo(pycurl.HTTP_CONNECTCODE)
    if attempt.proxy and refused >= 300:
        return untunnelled(redact(attempt.proxy), refused, "{}:{}".format(*place(attempt.url)))
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        if "subject name" in text:  # compared by libcurl itself, after OpenSSL's checks
            return peer.unverified(62, text)
        found = easy.getinfo(pycurl.SSL_VERIFYRESULT if peer.tunnelled else pycurl.PROXY_SSL_VERIFYRESULT)
        found = found or easy.getinfo(pycurl.SSL_VERIFYRESULT)
        return peer.unverified(found, re.sub(r".*(problem|result): | \(\d+\)$", "", text))
    if code == pycurl.E_SSL_CACERT_BADFILE:  # libcurl's own code for having no CAs at all
        return peer.unverified(20, "unable to get local issuer certificate")
    if code in _TLS_ERRORS:
        return peer.failed(text)
    if (
        code == pycurl.E_RECV_ERROR
    ):  # TLS 1.3 refuses clients late; an end without close_notify is an ordinary end
        failure = peer.failed(text)
        return None if failure.fault is Fault.TLS else failure
    return None
