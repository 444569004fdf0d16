"""What an operator writes for a store, as a Fetcher."""

from lazyfs.core.errors import UsageError
from lazyfs.transport.fetcher import Fetcher
from lazyfs.transport.local import LocalFetcher


def open_fetcher(store: str, proxy: str | None = None) -> Fetcher:
    """A Fetcher for a store directory or an http(s) URL.

    `proxy`: URL of a proxy. Proxies of the environment (`http_proxy`) are not used: a mount must
    not depend on the shell it was started from. Raises UsageError.
    """
    if "://" not in store:
        if proxy:
            raise UsageError(
                f"--proxy {proxy}: the store {store} is a directory and needs none; leave it out"
            )
        return LocalFetcher(store)
    if not store.startswith(("http://", "https://")):
        raise UsageError(f"store {store}: use a directory or a URL that starts with http:// or https://")
    from lazyfs.transport.guard import Limits
    from lazyfs.transport.http import HttpFetcher
    from lazyfs.transport.requests_client import RequestsClient

    return HttpFetcher(store, RequestsClient(Limits()), proxy)
