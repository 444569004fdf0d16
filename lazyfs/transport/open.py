"""Makes a Fetcher from an operator's description of a store."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.policy import Policy
from lazyfs.core.errors import UsageError
from lazyfs.transport.addresses import addresses_of
from lazyfs.transport.fetcher import Fetcher
from lazyfs.transport.guard import Limits
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.local import LocalFetcher

if TYPE_CHECKING:
    from lazyfs.transport.curl_client import CurlClient
    from lazyfs.transport.requests_client import RequestsClient
    from lazyfs.transport.tls import Tls

Library = Literal["requests", "pycurl", "auto"]


def open_fetcher(
    store: str,
    proxy: str | None = None,
    *,
    repository: str | None = None,
    policy: Policy | None = None,
    limits: Limits | None = None,
    connections: int = 44,
    tls: "Tls | None" = None,
    http: Library = "auto",
) -> Fetcher:
    """Returns a Fetcher for a store directory, or for http(s) URLs.

    `store`: a directory, or the origins' URLs. `proxy`: the chain of proxies. `repository`: the name that
    replaces @repo@ in the URLs (all three in the notation of `addresses_of`). Proxies of the environment
    (`http_proxy`) are not used: a mount must not depend on the shell it was started from. `connections`: the
    largest number of idle connections that are kept (the libraries count them differently). `tls`: the
    trusted CAs; by default the system's. `http`: the library that makes the requests; `auto` is pycurl if it
    is installed, which takes a third of the CPU (benchmarks/http). Raises UsageError.
    """
    found = addresses_of(store, proxy, repository)
    if found is None:
        return LocalFetcher(store)
    proxies, origins = found
    urls = [*origins, *(member for group in proxies for member in group)]
    if tls is None and any(url.startswith("https:") for url in urls):
        from lazyfs.transport.tls import Tls  # ssl takes 10 ms to import

        tls = Tls()
    make_client = _client_of(http, proxies, origins)
    client = make_client(limits or Limits(), connections=connections, tls=tls)
    return HttpFetcher(Chain(proxies, origins, policy or Policy(), random.random), client)


def load_client(store: str, proxy: str | None, repository: str | None, http: Library) -> None:
    """Imports the HTTP library that `open_fetcher` would use with these arguments. Raises UsageError."""
    found = addresses_of(store, proxy, repository)
    if found is not None:
        _client_of(http, *found)


def _forwarded_over_tls(proxies: Sequence[Sequence[str]], origins: Sequence[str]) -> bool:
    """Returns True if an https proxy is asked for http URLs: libcurl (8.23) makes a new connection for each
    such request."""
    over_tls = any(proxy.startswith("https:") for group in proxies for proxy in group)
    return over_tls and any(origin.startswith("http:") for origin in origins)


def _client_of(
    http: Library, proxies: Sequence[Sequence[str]], origins: Sequence[str]
) -> "type[CurlClient | RequestsClient]":
    # imported when needed: requests takes 60 ms, and a store in a directory needs none of them
    if http == "auto" and _forwarded_over_tls(proxies, origins):
        http = "requests"
    if http != "requests":
        try:
            from lazyfs.transport.curl_client import CurlClient
        except ImportError:
            if http == "pycurl":
                raise UsageError("pycurl is not installed: pip install pycurl, or use requests") from None
        else:
            return CurlClient
    from lazyfs.transport.requests_client import RequestsClient

    return RequestsClient
