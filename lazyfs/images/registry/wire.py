"""HTTP as a registry's client needs it: one request, its redirects followed by hand, its proxy, its TLS.

Credentials of other sources, which a general client would use, are not sent: no ~/.netrc, no cookies, no user
name in an address that a server sends. An Authorization field is sent only to the scheme, host and port it
was made for, and so is a client certificate (see `certificates`).
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol
from urllib.parse import unquote, urlencode, urlsplit

import requests.utils
import urllib3
from urllib3.util import make_headers

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.images.registry.addresses import Origin, joined, origin_of
from lazyfs.images.registry.certificates import Certificates
from lazyfs.images.registry.problems import BROKEN, Failed, Problem, explain, refused
from lazyfs.images.registry.timed_connections import POOLS, limited, timed_context

REDIRECTS = 10
CONNECT, SILENCE = 10.0, 60.0
"""Timeouts in seconds: CONNECT for connecting to a server, SILENCE for the wait for the next byte."""
WHOLE = 120.0
"""Timeout in seconds of what has to come whole: the head of an answer, with the connection that it needs; a
small body; one part of a larger one."""
PART = 1 << 17
_REDIRECT = (301, 302, 303, 307, 308)


class Reply:
    """An answer, its body unread."""

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        origin: Origin,
        now: Callable[[], float],
        check: Callable[[], None],
    ) -> None:
        """`now`: the monotonic clock. `check`: called while the body is read; raises Failed if nothing more
        may be read from the server."""
        self._check = check
        self._response = response
        self._now = now
        self.origin = origin
        self.status = response.status
        self.headers = response.headers

    def __enter__(self) -> "Reply":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection without waiting for the rest of the body."""
        self._response.close()

    def parts(self) -> Iterator[bytes]:
        """Yields the body as it is sent, in parts as they come, so that a body that trickles is noticed.
        Raises Failed if the time for the server is over, or the exceptions in BROKEN."""
        while True:
            with limited(WHOLE, SILENCE, self._check):
                part = self._response.read1(PART, decode_content=False)
            if not part:
                return
            yield part
            self._check()

    def small(self, limit: int) -> bytes:
        """Returns the whole body, decoded. Raises FormatError if it is over `limit` bytes, Failed if it
        breaks off or takes too long."""
        end = self._now() + WHOLE
        data = bytearray()
        try:
            with limited(WHOLE, SILENCE, self._check):
                while part := self._response.read1(1 << 16, decode_content=True):
                    data += part
                    if len(data) > limit:
                        raise FormatError(f"{self.origin}: an answer of over {limit} bytes")
                    if self._now() > end:
                        slow = f"{self.origin}: an answer that takes over {WHOLE:.0f} s"
                        raise Failed(Problem(slow, hopeless=False))
        except BROKEN as error:
            raise Failed(explain(error, str(self.origin))) from None
        return bytes(data)


class Pace(Protocol):
    """Limits the requests of a client that makes many requests, as the servers want it."""

    def turn(self, origin: Origin) -> AbstractContextManager[None]:
        """Waits until one request may be sent; the context is held until the head of its answer has come.
        Raises Failed if the server must not be asked now."""
        ...

    def answered(self, origin: Origin, status: int, headers: Mapping[str, str]) -> None:
        """Notes the head of an answer."""
        ...

    def broke(self, origin: Origin, problem: Problem) -> None:
        """Notes that a request got no answer, and why."""
        ...

    def check(self, origin: Origin) -> None:
        """Raises Failed if this server may not be waited for any more; called while an answer is awaited and
        read."""
        ...


class NoPace:
    """Delays no request. For a client that makes few requests."""

    def turn(self, _: Origin) -> AbstractContextManager[None]:
        return nullcontext()

    def answered(self, _: Origin, __: int, ___: Mapping[str, str]) -> None:
        pass

    def broke(self, _: Origin, __: Problem) -> None:
        pass

    def check(self, _: Origin) -> None:
        pass


NO_PACE = NoPace()


class Wire:
    """Makes requests. Safe to use from several threads."""

    def __init__(
        self,
        certificates: Certificates,
        *,
        plain_http: bool,
        proxies: Callable[[str], str | None] | None = None,
        now: Callable[[], float] = time.monotonic,
        pace: Pace = NO_PACE,
        connections: int = 4,
    ) -> None:
        """`plain_http`: True if http is allowed. `proxies`: a function that returns the URL of the proxy
        through which to ask a URL, or None for a direct connection; by default it reads the environment
        (https_proxy, http_proxy, all_proxy, no_proxy). `connections`: number of connections kept open to each
        server."""
        self._pace = pace
        self._connections = connections
        self._certificates = certificates
        self._plain_http = plain_http
        self._proxies = proxies or proxy_of_environment
        self._now = now
        self._pools: dict[tuple[Origin, str | None], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def get(
        self, url: str, headers: Mapping[str, str], *, hashed: bool = False, method: str = "GET"
    ) -> Reply:
        """Returns the answer to a GET (or HEAD), following redirects. With `hashed` (the bytes are compared
        with a digest) a redirect may lead from https to http, as in docker and podman.

        Raises Failed, or UsageError for certificates and proxies that cannot be used.
        """
        first = origin = origin_of(url)
        sent = dict(headers)
        for _ in range(REDIRECTS + 1):
            reply = self._once(method, url, origin, sent, None)
            target = reply.headers.get("Location")
            if reply.status not in _REDIRECT or target is None:
                return reply
            reply.close()
            url = joined(url, target)
            following = origin_of(url)
            if following.scheme == "http" and origin.scheme == "https" and not (hashed or self._plain_http):
                raise refused(f"{origin}: it redirects to {following}, without TLS: refused")
            if following != first:
                sent.pop("Authorization", None)  # for good: a later redirect may lead back
            origin = following
        raise refused(f"{first}: more than {REDIRECTS} redirects")

    def post(self, url: str, form: Mapping[str, str]) -> Reply:
        """Posts a form to this address only, without following redirects; returns the answer."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._once("POST", url, origin_of(url), kind, urlencode(form))

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Posts a body to this address only, without following redirects; returns the answer. Raises Failed,
        also for http where that is not allowed."""
        origin = origin_of(url)
        if origin.scheme == "http" and not self._plain_http:
            raise refused(f"{origin}: without TLS: refused")
        return self._once("POST", url, origin, headers, body)

    def _once(
        self,
        method: str,
        url: str,
        origin: Origin,
        headers: Mapping[str, str],
        body: str | bytes | None,
    ) -> Reply:
        pool = self._pool(origin, url)
        everyone = {"User-Agent": "lazyfs", "Accept-Encoding": "identity"}
        check = partial(self._pace.check, origin)
        with self._pace.turn(origin), limited(WHOLE, SILENCE, check):
            try:
                response = pool.request(
                    method,
                    url,
                    body=body,
                    headers={**everyone, **headers},
                    preload_content=False,
                    redirect=False,
                    retries=False,
                )
            except BROKEN as error:
                problem = explain(error, str(origin))
                self._pace.broke(origin, problem)
                raise Failed(problem) from None
            self._pace.answered(origin, response.status, response.headers)
        return Reply(response, origin, self._now, check)

    def _pool(self, origin: Origin, url: str) -> urllib3.PoolManager:
        proxy = self._proxies(url)
        with self._lock:
            pool = self._pools.get((origin, proxy))
            if pool is None:
                pool = self._pools[origin, proxy] = self._made(origin, proxy)
            return pool

    def _made(self, origin: Origin, proxy: str | None) -> urllib3.PoolManager:
        manager = self._manager(origin, proxy)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def _manager(self, origin: Origin, proxy: str | None) -> urllib3.PoolManager:
        context = None
        if origin.scheme == "https":
            context = timed_context(self._certificates.context(origin.host, origin.port))
        timeout = urllib3.Timeout(connect=CONNECT, read=SILENCE)
        if proxy is None:
            return urllib3.PoolManager(maxsize=self._connections, timeout=timeout, ssl_context=context)
        headers = {}
        try:
            via = origin_of(proxy)
            parts = urlsplit(proxy)
            if parts.username is not None:
                account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
                headers = make_headers(proxy_basic_auth=account)
            return urllib3.ProxyManager(
                str(via),
                maxsize=self._connections,
                timeout=timeout,
                proxy_headers=headers,
                ssl_context=context,
                proxy_ssl_context=self._proxy_context() if via.scheme == "https" else None,
            )
        except (Failed, ValueError):  # urllib3 takes fewer hosts than urlsplit; its text may have the account
            raise UsageError(
                f"proxy of {origin}: only http:// and https:// proxies are spoken to: give "
                "http://[USER:PASSWORD@]HOST:PORT"
            ) from None

    def _proxy_context(self) -> ssl.SSLContext:
        return timed_context(self._certificates.for_proxy())


def proxy_of_environment(url: str) -> str | None:
    """Returns the URL of the proxy for an address, as curl and requests read the environment; None for a
    direct connection. A bare host:port is http."""
    found = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not found:
        return None
    return found if "://" in found else f"http://{found}"
