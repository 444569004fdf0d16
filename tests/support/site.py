"""The site of the acceptance tests: a group of two squids, a parent squid, nginx, and between parent and
nginx a server that misbehaves on demand."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from lazyfs.client.objects import Objects
from lazyfs.core.chain.policy import Policy
from lazyfs.transport.guard import Limits
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.open import open_fetcher
from lazyfs_cache import Cache, open_cache
from tests.support.fault_server import FaultServer
from tests.support.nginx import NginxOrigin
from tests.support.squid import Squid


def relay_of(url: str) -> Callable[[str], bytes | None]:
    """Returns a `content` function for a FaultServer that relays another server's answers."""

    def content(path: str) -> bytes | None:
        with requests.Session() as session:
            session.trust_env = False
            reply = session.get(url + path, timeout=10, headers={"Accept-Encoding": "identity"})
        return reply.content if reply.status_code == 200 else None

    return content


class RealSite:
    """The servers of a site. They run while the context lasts, and each can be killed and started again."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._stack = ExitStack()
        self.nginx = NginxOrigin(store)
        self.parent = Squid()
        self.one = Squid(self.parent)
        self.two = Squid(self.parent)

    def __enter__(self) -> Self:
        for daemon in (self.nginx, self.parent, self.one, self.two):
            self._stack.enter_context(daemon)
        self.between = self._stack.enter_context(FaultServer(relay_of(self.nginx.url)))
        self.between.extra_headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def group(self) -> str:
        """Returns the URLs of both squids in the syntax of a proxy group."""
        return f"{self.one.url}|{self.two.url}"

    def node(
        self,
        origins: str,
        proxies: str,
        cache: Path,
        *,
        limit: int = 64 << 20,
        patience: float = 30.0,
        threads: int = 32,
        policy: Policy | None = None,
        limits: Limits | None = None,
    ) -> "Node":
        """Returns a worker's client with its own cache. The site closes it."""
        made = Node(origins, proxies, cache, limit, patience, threads, policy, limits)
        self._stack.callback(made.close)
        return made


class Node:
    """One worker's objects, over its own connections and cache."""

    def __init__(
        self,
        origins: str,
        proxies: str,
        cache: Path,
        limit: int,
        patience: float,
        threads: int,
        policy: Policy | None,
        limits: Limits | None,
    ) -> None:
        fetcher = open_fetcher(origins, proxies, policy=policy, limits=limits, connections=threads)
        assert isinstance(fetcher, HttpFetcher)
        self.fetcher = fetcher
        self.cache: Cache = open_cache(str(cache), limit)
        self.objects = Objects(fetcher, self.cache, patience=patience, threads=threads)

    def close(self) -> None:
        self.fetcher.close()
        self.cache.close()
