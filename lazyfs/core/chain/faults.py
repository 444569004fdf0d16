"""The faults of one attempt, and the member of the chain (proxy, origin) to which each fault points."""

import enum

from lazyfs.core.errors import TransportError


class Fault(enum.StrEnum):
    """The reason why an attempt failed; the value is its name in status, log and metrics."""

    DNS = "name not resolved"
    REFUSED = "connection refused"
    UNREACHABLE = "host unreachable"
    CONNECT = "connect timeout"
    TLS = "TLS failure"
    UNTRUSTED = "certificate not trusted"
    EXPIRED = "certificate not valid at this time"
    MISNAMED = "certificate of another host"
    SCHEME = "http and https mixed up"
    IDENTITY = "client certificate missing or refused"
    TUNNEL = "CONNECT refused"
    SILENT = "no answer"
    CLOSED = "connection closed"
    SLOW = "below minimum rate"
    TRUNCATED = "body truncated"
    GARBLED = "malformed HTTP"
    TOO_LONG = "body too long"
    ENCODED = "unasked Content-Encoding"
    REDIRECT = "redirect"
    MISSING = "404"
    ACCOUNT = "401, the server wants an account"
    DENIED = "403, access refused"
    PROXY_ACCOUNT = "407, the proxy wants an account"
    THROTTLED = "429"
    UNAVAILABLE = "502/503/504"
    SERVER_ERROR = "5xx"
    FORBIDDEN = "4xx"
    PORTAL = "HTML instead of the object"
    BAD_CONTENT = "wrong content"
    OVERTAKEN = "overtaken by a hedge"


CERTIFICATE = frozenset({Fault.UNTRUSTED, Fault.EXPIRED, Fault.MISNAMED, Fault.SCHEME, Fault.IDENTITY})
"""Faults of TLS: the peer is to blame, and no paths have to be compared to know it."""

CERTAIN = CERTIFICATE | {Fault.TUNNEL, Fault.ACCOUNT, Fault.PROXY_ACCOUNT}
"""Faults that need a change of a file or a setting: a request does not try the path again at once."""

PEER = CERTIFICATE | {
    Fault.DNS,
    Fault.REFUSED,
    Fault.UNREACHABLE,
    Fault.CONNECT,
    Fault.TLS,
    Fault.PROXY_ACCOUNT,
}
"""Faults before the request was sent: they speak against the proxy if one was used and has not made a tunnel,
else against the origin. Later faults may be the origin's, passed on by the proxy, so both are suspects."""

CONTENT = frozenset({Fault.PORTAL, Fault.BAD_CONTENT})
"""Faults of an answer with wrong bytes: the request asks again past the caches, then past the proxy."""


class AttemptFailed(TransportError):
    """One attempt over one path failed."""

    def __init__(
        self, fault: Fault, detail: str, retry_after: float | None = None, *, by_origin: bool = False
    ) -> None:
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)
        self.fault = fault
        self.by_origin = by_origin
        """True if the fault is the origin's and a proxy only passed it on."""
        self.retry_after = retry_after
        """Seconds for which the server asked us to stay away."""


def of_status(status: int) -> Fault | None:
    """Returns the fault of an HTTP status; None for 200, the only success (no ranges are asked for)."""
    if status == 200:
        return None
    named = {
        401: Fault.ACCOUNT,
        403: Fault.DENIED,
        404: Fault.MISSING,
        407: Fault.PROXY_ACCOUNT,
        410: Fault.MISSING,
        429: Fault.THROTTLED,
    }
    if status in named:
        return named[status]
    if status in (502, 503, 504):
        return Fault.UNAVAILABLE
    if 300 <= status < 400:
        return Fault.REDIRECT
    if 400 <= status < 500:
        return Fault.FORBIDDEN
    return Fault.SERVER_ERROR if 500 <= status < 600 else Fault.GARBLED
