"""One HTTP attempt by the library `requests`: one URL, one proxy or none, one body.

The library handles URLs, proxies, TLS and pools of kept-alive connections. Its adapter is called directly
with a prepared request (540-1000 us of CPU each, a Session takes 850-1210), and bodies are read raw
(`.content` reads 8 MiB bodies at 330-470 MB/s, `read1` at 1090-1790).
"""

import base64
import http.client
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.connect import Resolver
from lazyfs.transport.guard import SLICE, Guard, Limits, guarding
from lazyfs.transport.requests_connections import Connection, TlsConnection
from lazyfs.transport.response_head import Head
from lazyfs.transport.tls_faults import Peer

if TYPE_CHECKING:
    from lazyfs.transport.tls import Tls

_STEP = 1 << 20
"""The number of bytes in one read of a body. Larger reads are no faster, and cancellation is noticed between
reads."""

_FAULTS: tuple[tuple[type[Exception], Fault], ...] = (
    (requests.exceptions.ProxyError, Fault.UNAVAILABLE),
    (urllib3.exceptions.ProxyError, Fault.UNAVAILABLE),
    (http.client.RemoteDisconnected, Fault.CLOSED),
    (http.client.IncompleteRead, Fault.TRUNCATED),
    (urllib3.exceptions.IncompleteRead, Fault.TRUNCATED),
    (urllib3.exceptions.InvalidChunkLength, Fault.GARBLED),
    (http.client.HTTPException, Fault.GARBLED),
    (ConnectionError, Fault.CLOSED),
    (TimeoutError, Fault.CONNECT),
    (OSError, Fault.CLOSED),
    (urllib3.exceptions.HTTPError, Fault.GARBLED),
    (ValueError, Fault.GARBLED),
)
"""The fault that each exception stands for. In a chain of exceptions, the innermost one that is in this table
decides; if several rows match it, the first row counts."""


def _fault_of(error: BaseException, peer: Peer) -> AttemptFailed:
    """Returns the AttemptFailed for a library's exception. An exception of requests wraps one of urllib3,
    which wraps one of http.client or socket."""
    chain = [error]
    while len(chain) < 8:
        inner = [a for a in chain[-1].args if isinstance(a, Exception)]
        reason = getattr(chain[-1], "reason", None)
        following = chain[-1].__cause__ or (inner[0] if inner else None)
        following = following or (reason if isinstance(reason, Exception) else None)
        if following is None:
            break
        chain.append(following)
    for link in reversed(chain):
        if isinstance(link, ssl.SSLError):  # on an open connection: TLS 1.3 refuses clients late
            return peer.failed(str(link))
        # requests' own exceptions are OSErrors: only those named in the table have a meaning
        vague = isinstance(link, requests.exceptions.RequestException)
        for kind, fault in _FAULTS[:2] if vague else _FAULTS:
            if isinstance(link, kind):
                return AttemptFailed(fault, str(link)[:200])
    return AttemptFailed(Fault.GARBLED, str(error)[:200])


class _Adapter(HTTPAdapter):
    """Pools whose connections ask the guard of the attempt that uses them (`guard`)."""

    def __init__(self, resolver: Resolver, connections: int, tls: "Tls | None") -> None:
        plain = type("PlainConnection", (Connection,), {"resolver": resolver})
        secured = type("SecuredConnection", (TlsConnection,), {"resolver": resolver, "tls": tls})
        self._pools = {
            "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("TlsPool", (HTTPSConnectionPool,), {"ConnectionCls": secured}),
        }
        super().__init__(pool_connections=64, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def cert_verify(self, *_: Any) -> None:
        """Does nothing: requests would use the CAs of a package (certifi); our connections have their own."""


class RequestsClient:
    """Makes attempts. Thread-safe; connections are kept alive and shared by all threads."""

    def __init__(self, limits: Limits, *, connections: int = 32, tls: "Tls | None" = None) -> None:
        """`connections`: the largest number of connections that are kept alive to each proxy or origin.
        `tls`: needed if a proxy or origin has an https URL."""
        self._limits = limits
        self._tls = tls
        self._adapter = _Adapter(Resolver(), connections, tls)
        template = requests.PreparedRequest()
        template.prepare(method="GET", url="http://template.invalid/")
        template.headers.clear()
        template.headers["User-Agent"] = "lazyfs"
        # A proxy that compresses breaks digests and ranges alike; frames are compressed already.
        template.headers["Accept-Encoding"] = "identity"
        self._template = template

    def get(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Answer:
        """Returns the answer with status 200 and its whole body. Raises AttemptFailed for any other answer.

        Redirects are not followed: a store has none, a captive portal does.
        """
        limits = self._limits.hurried(attempt.patience)
        with guarding(Guard(attempt.deadline, limits, check_cancelled)) as guard:
            try:
                return self._get(attempt, guard)
            except AttemptFailed as error:
                # The server may have closed a kept-alive connection just when we used it: this is no fault.
                if error.fault != Fault.CLOSED or guard.connected or guard.first_byte is not None:
                    raise
                return self._get(attempt, guard)

    def _get(self, attempt: Attempt, guard: Guard) -> Answer:
        prepared = self._template.copy()
        prepared.url = attempt.url
        account = _account(attempt.url)
        if account:
            prepared.headers["Authorization"] = account
        if attempt.no_cache:
            prepared.headers["Cache-Control"] = "no-cache"
            prepared.headers["Pragma"] = "no-cache"
        proxies = {"http": attempt.proxy, "https": attempt.proxy} if attempt.proxy else {}
        peer = _peer(attempt, self._tls)
        try:
            response = self._adapter.send(prepared, stream=True, timeout=(5.0, SLICE), proxies=proxies)
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
        ) as error:
            raise _fault_of(error, peer) from error
        guard.head_bytes = None
        raw = response.raw
        whole = False
        head = Head.of(response.status_code, response.headers)
        try:
            body = _read(response, head, attempt, guard)
            raw.drain_conn()  # the body is complete, but only a read at its end gives the connection back
            whole = True
        except AttemptFailed as refusal:
            page = _page(response, guard) if head.short_page else None
            whole = page is not None
            raise peer.refined(refusal, page or b"") from None
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            failure = _fault_of(error, peer)
            if failure.fault == Fault.TRUNCATED and raw.chunked:  # http.client raises this for any bad chunk
                failure = AttemptFailed(Fault.GARBLED, "bad chunked encoding")
            raise failure from error
        finally:
            if not whole:
                raw.close()
        return Answer(
            body=body,
            first_byte=(guard.first_byte or guard.started) - guard.started,
            elapsed=time.monotonic() - guard.started,
            html=head.html,
            from_cache=head.from_cache,
            date=head.field("date"),
        )

    def loop(self) -> None:
        """Returns None: an attempt occupies its thread."""

    def expect(self, urls: Mapping[str, int]) -> None:
        """Does nothing: requests opens a connection only for a request."""

    def close(self) -> None:
        """Closes idle connections."""
        self._adapter.close()


def _read(response: requests.Response, head: Head, attempt: Attempt, guard: Guard) -> bytes:
    expected = head.check_final(attempt.max_bytes)
    parts: list[bytes] = []
    got = 0
    while expected is None or got < expected:
        part = response.raw.read1(_STEP, decode_content=False)
        if not part:
            break
        got += len(part)
        if got > attempt.max_bytes:
            raise AttemptFailed(Fault.TOO_LONG, f"more than {attempt.max_bytes} bytes")
        parts.append(part)
        guard.check()
    if expected is not None and got < expected:
        raise AttemptFailed(Fault.TRUNCATED, f"{got} of {expected} bytes")
    if expected is not None and got > expected:  # http.client has taken another length than we have
        raise AttemptFailed(Fault.GARBLED, f"{got} bytes where {expected} were announced")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _page(response: requests.Response, guard: Guard) -> bytes | None:
    """Returns a short error page, read to its end; None if it breaks off, which leaves the connection
    unusable."""
    page = b""
    try:
        while part := response.raw.read1(_STEP, decode_content=False):
            page += part
            guard.check()
        response.raw.drain_conn()
    except (AttemptFailed, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError):
        return None
    return page


def _account(url: str) -> str:
    """Returns the Authorization header for the user and password in a URL, which an adapter does not send by
    itself; empty if the URL has none."""
    account, at, _ = urllib.parse.urlsplit(url).netloc.rpartition("@")
    if not at:
        return ""
    user, _, password = account.partition(":")
    pair = urllib.parse.unquote_to_bytes(user) + b":" + urllib.parse.unquote_to_bytes(password)
    return f"Basic {base64.b64encode(pair).decode()}"


def _peer(attempt: Attempt, tls: "Tls | None") -> Peer:
    """Returns the peer to which the request itself is sent: the origin, or for an http URL the proxy if there
    is one."""
    secure = attempt.url.startswith("https:")
    parts = urllib.parse.urlsplit(attempt.url if secure or not attempt.proxy else attempt.proxy)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Peer(parts.hostname or "", port, tls, tunnelled=secure and attempt.proxy is not None)
