"""The repositories of a mount: opened, kept at their newest trusted revision, and described."""

import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from lazyfs.client.trust.refresher import JITTER, RETRY
from lazyfs.core.chain.notation import without_secrets
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.trust.errors import Expired
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.connected_repository import ConnectedRepository
from lazyfs.daemon.known_revision import KnownRepository
from lazyfs.daemon.late_imports import OF_A_CHOSEN_REVISION, load
from lazyfs.daemon.repository_connection import FIRST_LOOK, Connector
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.daemon.status import GuessStatus, ProfileCounts, RepositoryStatus
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.prefetch.prefetcher import GuessCounts, LineShare, Surroundings
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.open import load_client
from lazyfs_cache import Cache, NullCache

if TYPE_CHECKING:
    from lazyfs.daemon.reporting.starts import WatchedStarts

log = logging.getLogger(__name__)


class Repositories:
    """The open repositories of one mount."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache | NullCache,
        state_dir: str,
        certificates: Certificates,
        filesystem: Filesystem,
        on_advance: Callable[[str, Revision], Awaitable[None]],
        on_withdraw: Callable[[str], Awaitable[None]],
    ) -> None:
        """`filesystem`: shows the repositories. `on_advance` shows another revision of the named repository;
        `on_withdraw` stops showing the named repository."""
        self._settings = settings
        self._filesystem = filesystem
        self.starts: WatchedStarts | None = None
        """The starts that are watched and reported; None if no starts are reported."""
        if settings.profile is not None:
            from lazyfs.daemon.reporting import starts  # few mounts report

            self.starts = starts.WatchedStarts(filesystem.lock, time.monotonic, settings.profile.seconds)
        share = LineShare(settings.prefetch_share, lambda: filesystem.allowance.most)
        around = Surroundings(
            filesystem.tree, filesystem.lock, filesystem.demand, filesystem.cache_space, share
        )
        self._connector = Connector(
            settings, cache, state_dir, certificates, around, filesystem.allowance, self.starts
        )
        self._on_advance = on_advance
        self._on_withdraw = on_withdraw
        self.opened: dict[str, ConnectedRepository] = {}
        self._withdrawn: list[ConnectedRepository] = []
        self._nursery: trio.Nursery | None = None
        """The nursery of the tasks that look for new revisions; None until `keep_fresh` runs."""

    async def open(
        self, source: RepositorySource, name: str | None = None, known: KnownRepository | None = None
    ) -> str:
        """Opens a repository and shows it: connects, trusts a revision, fetches its root catalog.

        `name`: the name under which a site shows it; by default the name in its signed metadata. `known`: the
        repository as it is shown already. Returns the name. Raises LazyfsError.
        """

        async def advance(revision: Revision) -> None:
            await self._on_advance(shown, revision)

        opened = await trio.to_thread.run_sync(
            self._connector.connect, source, name, advance, known and known.revision
        )
        # Until the mount is made, all threads may be root for a moment (`Privileges.raised`). The user could
        # not read a file that a thread wrote into the cache in that moment.
        may_write = self._settings.user is None or self._nursery is not None
        try:
            revision = await opened.first_shown(self._settings.patience, ahead=may_write)
        except BaseException:
            opened.close()
            raise
        shown = name or revision.name
        self.opened[shown] = opened
        self._filesystem.show(
            OpenRepository(
                shown,
                opened.objects,
                revision.root,
                revision.number,
                opened.prefetcher,
                facts=lambda: self.facts(shown),
                is_newest=opened.refresher.first_look.is_set(),
            )
        )
        if known is not None:
            with self._filesystem.lock:
                for image, profile, program in known.entered.images:
                    opened.prefetcher.on_enter(image, profile, program)
                for read in known.entered.reads:
                    opened.prefetcher.on_early_read(read)
        if self._nursery is not None:
            self._nursery.start_soon(self._follow, shown, opened)
        return shown

    def load_modules(self) -> None:
        """Imports the modules that a site's repositories need. They are opened later, when they are first
        used. If the settings of one are wrong, this is not reported here but when it is opened."""
        if not self._settings.is_site():
            return  # the only repository is open
        for name, source in self._settings.sources().items():
            with suppress(UsageError):
                load_client(source.url, source.proxy, name, self._settings.http)
            if source.revision is not None:
                load(OF_A_CHOSEN_REVISION)

    async def settle(self, name: str) -> None:
        """Waits until a newer revision has been looked for, but neither longer than FIRST_LOOK seconds nor
        longer than half of the time that a call may wait. From then on, a name that the shown revision lacks
        is answered as missing: no newer revision is waited for. Raises LazyfsError for a repository that is
        not open."""
        opened = self.opened.get(name)
        if opened is None:
            raise LazyfsError(f"repository {name}: not connected yet")
        with trio.move_on_after(min(FIRST_LOOK, self._settings.patience / 2)):
            await opened.refresher.first_look.wait()
        self._filesystem.settle(name)

    async def keep_fresh(self) -> None:
        """Looks for new revisions of every repository, including those opened later, until cancelled.

        A repository that is too old to be served (`--max-stale`) is withdrawn from a site. If it is the
        mount's only repository, raises Expired.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for name, opened in self.opened.items():
                nursery.start_soon(self._follow, name, opened)
            await trio.sleep_forever()

    async def _follow(self, name: str, opened: ConnectedRepository) -> None:
        """Looks for new revisions and profiles of one repository, until it is withdrawn."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_profiles, opened)
            await self._follow_revisions(name, opened)
            nursery.cancel_scope.cancel()

    async def _follow_revisions(self, name: str, opened: ConnectedRepository) -> None:
        while True:
            try:
                await opened.refresher.run()
            except Expired as error:
                if not self._settings.is_site():
                    raise
                log.warning("%s is shown no longer: %s", name, error)
                await self._withdraw(name, opened)
                return
            except Exception:  # only this repository fails, and only this time
                log.exception("%s: looking for new revisions", name)
                await trio.sleep(RETRY)

    async def _follow_profiles(self, opened: ConnectedRepository) -> None:
        """Looks for newer profiles made from the reports of workers (`lazyfs collect`): first at once, then
        at the interval at which new revisions are looked for."""
        while True:
            deadline = time.monotonic() + self._settings.patience
            try:
                await trio.to_thread.run_sync(
                    opened.collected.refresh, datetime.now(UTC), deadline, trio.from_thread.check_cancelled
                )
            except Exception:  # hints only
                log.exception("looking for collected profiles")
            jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
            await trio.sleep(self._settings.refresh * jitter)

    async def _withdraw(self, name: str, opened: ConnectedRepository) -> None:
        """Stops showing one repository of a site. The next lookup of its name opens it anew, which fails
        until a newer revision can be fetched."""
        del self.opened[name]
        self._withdrawn.append(opened)
        await self._on_withdraw(name)

    async def refresh(self, name: str) -> bool:
        """Looks for a newer revision and shows it. Returns True if there was one.

        Raises LazyfsError if the search fails, and KeyError for a repository that was withdrawn.
        """
        refresher = self.opened[name].refresher
        before = refresher.shown
        return (await refresher.now()).number != before.number

    def is_behind_caches(self, name: str) -> bool:
        """Returns True if answers for this repository may come from a proxy's cache."""
        return isinstance(self.opened[name].fetcher, HttpFetcher)

    def status(self) -> dict[str, RepositoryStatus]:
        """Returns the status of each repository: its revision, a warning if it is not the newest, its proxies
        and origins."""
        return {
            name: RepositoryStatus(
                url=without_secrets(opened.source.url),
                revision=opened.refresher.shown.number,
                published=opened.refresher.shown.time,
                root=opened.refresher.shown.root.digest.hex(),
                root_size=opened.refresher.shown.root.size,
                looked=opened.refresher.looked.timestamp(),
                warning=opened.refresher.error,
                namespace=opened.objects.namespace.decode(),
                profiles=ProfileCounts(**opened.prefetcher.profiled()),
                collected=opened.collected.images,
                guesses=_guesses(opened.prefetcher.guesses()),
                trust=opened.revisions.report(datetime.now(UTC)),
                chain=opened.fetcher.report() if isinstance(opened.fetcher, HttpFetcher) else None,
            )
            for name, opened in list(self.opened.items())
        }

    def urls(self) -> dict[str, str]:
        """Returns the URL of each repository with the accounts in it, for this user alone."""
        return {name: opened.source.url for name, opened in list(self.opened.items())}

    def facts(self, name: str) -> dict[str, str]:
        """Returns the extended attributes of a repository that only the daemon knows: `user.host` and
        `user.proxy`."""
        opened = self.opened.get(name)
        if opened is None:
            return {}
        if not isinstance(opened.fetcher, HttpFetcher):
            return {"user.host": opened.source.url}
        found: dict[str, str] = {}
        for member in opened.fetcher.report().members:
            if member.state == "up":
                found.setdefault("user.host" if member.kind == "origin" else "user.proxy", member.name)
        return found

    def close(self) -> None:
        """Closes all connections."""
        for opened in (*self.opened.values(), *self._withdrawn):
            opened.fetcher.close()


def _guesses(counts: GuessCounts) -> GuessStatus:
    return GuessStatus(
        guessed=counts.objects,
        guessed_bytes=counts.bytes,
        used=counts.used_objects,
        used_bytes=counts.used_bytes,
        wasted=counts.objects - counts.used_objects,
        wasted_bytes=counts.bytes - counts.used_bytes,
        dropped=counts.dropped,
    )
