"""A repository that a mount has opened: its connection, its trust, its objects; and the revision with which
the mount begins to show it."""

import logging
from typing import TYPE_CHECKING, NamedTuple

import trio

from lazyfs.client.collected_profiles import CollectedProfiles
from lazyfs.client.objects import Objects
from lazyfs.client.trust.refresher import Refresher
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chain.notation import without_secrets
from lazyfs.core.errors import BadData, DeadlineExceeded, LazyfsError, TransportError
from lazyfs.core.params import Revision
from lazyfs.daemon.settings import RepositorySource
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.transport.fetcher import Fetcher

if TYPE_CHECKING:
    from lazyfs.client.trust.chosen_revision import ChosenRevision

log = logging.getLogger(__name__)


class ConnectedRepository(NamedTuple):
    """A repository that this mount has opened."""

    source: RepositorySource
    fetcher: Fetcher
    revisions: "Revisions | ChosenRevision"
    objects: Objects
    prefetcher: Prefetcher
    refresher: Refresher
    collected: CollectedProfiles

    async def first_shown(self, patience: float, *, ahead: bool) -> Revision:
        """Returns the revision to begin with, once its root catalog is here: the refresher's, or the one that
        mounts showed before if the root catalog of the refresher's cannot be had within half of `patience`
        (seconds). The refresher then begins with that one too, and looks for a newer one soon.

        `ahead`: True to begin to fetch the catalogs below as well. Raises TransportError, BadData.
        """
        newest, earlier = self.refresher.shown, self.revisions.earlier()
        if earlier is None or earlier == newest:
            await self._bring_root(newest, ahead=ahead)
            return newest
        fault = await self._fault_of(newest, patience / 2, ahead=ahead)
        if fault is None:
            await trio.to_thread.run_sync(self.revisions.note_shown, newest)
            return newest
        reason = f"revision {newest.number} cannot be shown: {fault}"
        try:
            await self._bring_root(earlier, ahead=ahead)
        except (TransportError, BadData):
            raise type(fault)(reason) from fault
        log.warning("%s stays at revision %d: %s", without_secrets(self.source.url), earlier.number, reason)
        self.refresher.shown, self.refresher.error = earlier, reason
        return earlier

    async def _fault_of(self, revision: Revision, patience: float, *, ahead: bool) -> LazyfsError | None:
        """Returns the reason why the root catalog of a revision cannot be had or read; None if it can."""
        with trio.move_on_after(patience):
            try:
                root = await self._bring_root(revision, ahead=ahead)
                await trio.to_thread.run_sync(lambda: Catalog(root).directory(0))
            except (TransportError, BadData) as fault:
                return fault
            return None
        return DeadlineExceeded(f"its root catalog is not here after {patience:g} s")

    async def _bring_root(self, revision: Revision, *, ahead: bool) -> bytes:
        if ahead:
            self.prefetcher.on_open(revision.root, revision.first_catalogs)
        root = self.objects.at_hand(revision.root)
        return await self.objects.fetch(revision.root) if root is None else root

    def close(self) -> None:
        """Cancels the downloads under way, and closes the connections."""
        self.objects.close()
        self.fetcher.close()
