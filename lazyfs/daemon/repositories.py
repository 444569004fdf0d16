"""Opens repositories for a mount and keeps them at their newest trusted revision."""

import logging
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import trio

from lazyfs.client.objects import Objects
from lazyfs.client.trust.anchor import Anchor, anchor_of_directory, read_anchor
from lazyfs.client.trust.refresher import RETRY, Refresher
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import TransportError, TrustError, UnsupportedFormat, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.trust.errors import Expired
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.private_repositories import namespace, state_key
from lazyfs.daemon.settings import Place, Settings
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.transport.fetcher import Fetcher
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.local import LocalFetcher
from lazyfs.transport.lower_store import LowerFirst
from lazyfs.transport.open import open_fetcher
from lazyfs_cache import Cache, NullCache

FIRST_LOOK = 3.0
"""Seconds that a mount waits for a newer revision while it has a trusted one already."""

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A repository in use."""

    place: Place
    fetcher: Fetcher
    revisions: Revisions
    objects: Objects
    prefetcher: Prefetcher
    refresher: Refresher


class Repositories:
    """The open repositories of one mount."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache | NullCache,
        state_dir: str,
        certificates: Certificates,
        on_advance: Callable[[str, Revision], Awaitable[None]],
        on_withdraw: Callable[[str], Awaitable[None]],
    ) -> None:
        """`on_advance` shows another revision of the repository of that name, `on_withdraw` shows it no
        longer."""
        self._settings = settings
        self._certificates = certificates
        self._on_advance = on_advance
        self._on_withdraw = on_withdraw
        self._cache = cache
        self._state_dir = state_dir
        self.opened: dict[str, Opened] = {}
        self._withdrawn: list[Opened] = []
        self._nursery: trio.Nursery | None = None
        """Where refreshers run, once `keep_fresh` does."""

    async def open(self, place: Place, filesystem: Filesystem, name: str | None = None) -> str:
        """Connects, believes a revision, brings its root catalog, and shows it; returns its name.

        `name`: under which a site shows it; by default what the signature says. Raises LazyfsError.
        """

        async def advance(revision: Revision) -> None:
            await self._on_advance(shown, revision)

        opened = await trio.to_thread.run_sync(self._connect, place, name, advance)
        revision = opened.refresher.shown
        shown = name or revision.name
        root = revision.root
        if opened.objects.at_hand(root) is None:
            await opened.objects.fetch(root)
        # Until the mount is made, all threads may be root for a moment (`Privileges.raised`): what they wrote
        # into the cache then, the user could not read.
        if self._settings.user is None or self._nursery is not None:
            opened.prefetcher.on_open(root)
        self.opened[shown] = opened
        filesystem.show(
            OpenRepository(
                shown,
                opened.objects,
                root,
                revision.number,
                opened.prefetcher,
                facts=lambda: self.facts(shown),
            )
        )
        if self._nursery is not None:
            self._nursery.start_soon(self._follow, shown, opened)
        return shown

    def _connect(
        self, place: Place, name: str | None, advance: Callable[[Revision], Awaitable[None]]
    ) -> Opened:
        anchor, why = _anchor(place)
        repository = name or os.path.basename(self._settings.mountpoint)  # what @repo@ stands for
        fetcher = open_fetcher(
            place.url,
            place.proxy,
            repository=repository,
            tls=self._certificates.of(place),
            http=self._settings.http,
        )
        try:
            return self._connected(place, repository, fetcher, anchor, why, advance)
        except BaseException:
            fetcher.close()
            raise

    def _connected(
        self,
        place: Place,
        repository: str,
        fetcher: Fetcher,
        anchor: Anchor | None,
        why: UsageError | None,
        advance: Callable[[Revision], Awaitable[None]],
    ) -> Opened:
        directory = os.path.join(self._state_dir, state_key(place.url, repository))
        os.makedirs(directory, mode=0o700, exist_ok=True)
        revisions = Revisions(fetcher, directory, anchor, max_stale=self._settings.max_stale)
        now = datetime.now(UTC)
        try:
            known, stale = revisions.offline(now), None
        except TrustError as error:  # past --max-stale: only a newer one will do
            known, stale = None, error
        if known is None and stale is None and why is not None:
            raise why
        deadline = time.monotonic() + (FIRST_LOOK if known else self._settings.patience)
        warning = ""
        try:
            revision = revisions.refresh(now, deadline)
        except (TransportError, TrustError, UnsupportedFormat) as error:
            if known is None:
                if stale is not None:
                    raise stale from error
                if isinstance(error, TrustError):
                    raise TrustError(f"{place.url} with the root given by --trust: {error}") from error
                raise
            revision, warning = known, str(error)
            log.warning("%s stays at revision %d: %s", place.url, known.number, error)
        from_store = self._with_lower(fetcher)
        objects = Objects(
            from_store,
            self._cache,
            patience=self._settings.patience,
            on_outage=self._settings.on_outage,
            namespace=namespace(place.url, repository, certificate=self._certificates.identifies(place)),
        )
        refresher = Refresher(
            revisions,
            revision,
            advance,
            interval=self._settings.refresh,
            patience=self._settings.patience,
            error=warning,
        )
        prefetcher = trio.from_thread.run_sync(
            Prefetcher, objects, from_store, lambda: self._cache.stats().limit
        )
        return Opened(place, fetcher, revisions, objects, prefetcher, refresher)

    def _with_lower(self, fetcher: Fetcher) -> Fetcher:
        if self._settings.lower is None:
            return fetcher
        return LowerFirst(LocalFetcher(self._settings.lower), fetcher)

    async def keep_fresh(self) -> None:
        """Looks for new revisions of every repository, those opened later included, until cancelled.

        Raises Expired once the mount's only one may not be served any longer (`--max-stale`); one of several
        is withdrawn.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for name, opened in self.opened.items():
                nursery.start_soon(self._follow, name, opened)
            await trio.sleep_forever()

    async def _follow(self, name: str, opened: Opened) -> None:
        while True:
            try:
                await opened.refresher.run()
            except Expired as error:
                if not self._settings.site():
                    raise
                log.warning("%s is shown no longer: %s", name, error)
                await self._withdraw(name, opened)
                return
            except Exception:  # one repository, and for now
                log.exception("%s: looking for new revisions", name)
                await trio.sleep(RETRY)

    async def _withdraw(self, name: str, opened: Opened) -> None:
        """Takes one repository of a site away. The next lookup of its name opens it anew, which fails until
        a newer revision can be had."""
        del self.opened[name]
        self._withdrawn.append(opened)
        await self._on_withdraw(name)

    async def refresh(self, name: str) -> bool:
        """Looks for a newer revision and shows it; whether there was one. Raises as `Refresher.now`."""
        refresher = self.opened[name].refresher
        before = refresher.shown
        return (await refresher.now()).number != before.number

    def describe(self) -> dict[str, Any]:
        """For `status`: what is shown of each repository, why, and how its paths fare."""
        return {
            name: {
                "url": opened.place.url,
                "revision": opened.refresher.shown.number,
                "published": opened.refresher.shown.time,
                "root": opened.refresher.shown.root.digest.hex(),
                "root_size": opened.refresher.shown.root.size,
                "looked": opened.refresher.looked.timestamp(),
                "warning": opened.refresher.error,
                "namespace": opened.objects.namespace.decode(),
                "bundles": opened.prefetcher.bundles(),
                "trust": msgspec.to_builtins(opened.revisions.report(datetime.now(UTC))),
                "chain": msgspec.to_builtins(opened.fetcher.report())
                if isinstance(opened.fetcher, HttpFetcher)
                else None,
            }
            for name, opened in list(self.opened.items())
        }

    def facts(self, name: str) -> dict[str, str]:
        """What only the daemon knows of a repository: the operators' `user.host` and `user.proxy`."""
        opened = self.opened.get(name)
        if opened is None:
            return {}
        if not isinstance(opened.fetcher, HttpFetcher):
            return {"user.host": opened.place.url}
        found: dict[str, str] = {}
        for member in opened.fetcher.report().members:
            if member.state == "up":
                found.setdefault("user.host" if member.kind == "origin" else "user.proxy", member.name)
        return found

    def close(self) -> None:
        """Gives connections back."""
        for opened in (*self.opened.values(), *self._withdrawn):
            opened.fetcher.close()


def _anchor(place: Place) -> tuple[Anchor | None, UsageError | None]:
    """What to trust first, or why there is nothing: that matters only if nothing is trusted already."""
    if place.trust:
        return read_anchor(place.trust), None
    if "://" in place.url:
        return None, UsageError(
            f"{place.url} is mounted for the first time: say what to trust with --trust ROOT.json or "
            f"--trust FINGERPRINT (`lazyfs repo show STORE` prints it)"
        )
    try:
        return anchor_of_directory(place.url), None
    except UsageError as error:
        return None, error
