"""Connects a repository of a mount: makes its connection, finds a revision to trust, and sets up its
objects."""

import logging
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from lazyfs.client.allowance import Allowance
from lazyfs.client.collected_profiles import CollectedProfiles
from lazyfs.client.objects import THREADS, Objects
from lazyfs.client.tenant_cache import TenantCache
from lazyfs.client.trust.anchor import Anchor, anchor_of
from lazyfs.client.trust.refresher import Refresher
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.chain.notation import without_secrets
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import (
    BadData,
    DeadlineExceeded,
    LazyfsError,
    NotFound,
    Outage,
    TransportError,
    TrustError,
    UnsupportedFormat,
    UsageError,
)
from lazyfs.core.params import Revision
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.connected_repository import ConnectedRepository
from lazyfs.daemon.known_revision import repository_name
from lazyfs.daemon.private_repositories import namespace, state_key
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.prefetch.prefetcher import Prefetcher, Surroundings
from lazyfs.system.trusted_files import make_private_directory
from lazyfs.transport.fetcher import Fetcher
from lazyfs.transport.local import LocalFetcher
from lazyfs.transport.lower_store import LowerFirst
from lazyfs.transport.open import open_fetcher
from lazyfs_cache import Cache, NullCache

FIRST_LOOK = 3.0
"""Upper limit, in seconds, of the time that a mount with a trusted revision waits for a newer one."""
FIRST_CATALOGS = 4
"""Number of catalogs that a first mount is expected to fetch at one time, as soon as it has the timestamp."""
NO_STORE = "is it the URL of a store? There, curl URL/metadata/timestamp.json prints a signed file"
NO_WAY = "check the URL and --proxy: curl -x PROXY URL/metadata/timestamp.json has to print a signed file"

if TYPE_CHECKING:
    from lazyfs.client.trust.chosen_revision import ChosenRevision
    from lazyfs.daemon.reporting.starts import WatchedStarts

log = logging.getLogger(__name__)


class _FirstRevision(NamedTuple):
    """The revision that a mount begins with."""

    revision: Revision
    warning: str
    """The reason why no newer revision could be fetched; empty if it could, or was not tried."""
    is_newest: bool
    """True unless no newer revision has been looked for yet."""


class Connector:
    """Connects the repositories of one mount."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache | NullCache,
        state_dir: str,
        certificates: Certificates,
        surroundings: Surroundings,
        allowance: Allowance,
        starts: "WatchedStarts | None" = None,
    ) -> None:
        """`state_dir`: the directory of the trusted revisions of all repositories. `surroundings`: the parts
        of the mount that the prefetchers use. `allowance`: the bound on the bytes that all repositories
        together have under way. `starts`: the starts that are watched and reported; None if no starts are
        reported."""
        self._starts = starts
        self._allowance = allowance
        self._settings = settings
        self._surroundings = surroundings
        self._cache = cache
        self._state_dir = state_dir
        self._certificates = certificates

    def connect(
        self,
        source: RepositorySource,
        name: str | None,
        on_advance: Callable[[Revision], Awaitable[None]],
        known: Revision | None = None,
    ) -> ConnectedRepository:
        """Returns a repository with a trusted revision. Blocks: call it in a thread of trio.

        `name`: the name under which a site shows it; None for the only repository of a mount. `on_advance` is
        awaited with each later revision. `known`: the revision that is shown already. Raises LazyfsError.
        """
        anchor = anchor_of(source.url, source.trust)
        repository = name or repository_name(self._settings)
        fetcher = open_fetcher(
            source.url,
            source.proxy,
            repository=repository,
            connections=THREADS,
            tls=self._certificates.of(source),
            http=self._settings.http,
        )
        try:
            return self._with_fetcher(source, repository, fetcher, anchor, on_advance, known)
        except BaseException:
            fetcher.close()
            raise

    def _with_fetcher(
        self,
        source: RepositorySource,
        repository: str,
        fetcher: Fetcher,
        anchor: Anchor | UsageError,
        on_advance: Callable[[Revision], Awaitable[None]],
        known: Revision | None,
    ) -> ConnectedRepository:
        settings = self._settings
        directory = os.path.join(self._state_dir, state_key(source.url, repository))
        make_private_directory(directory)
        given = None if isinstance(anchor, UsageError) else anchor
        if settings.lower is not None:
            from_store: Fetcher = LowerFirst(LocalFetcher(settings.lower), fetcher)
        else:
            from_store = fetcher
        objects = Objects(
            from_store,
            TenantCache(self._cache, state_key(source.url, repository).encode()),
            patience=settings.patience,
            on_outage=settings.on_outage,
            namespace=namespace(source.url, repository, certificate=source.client_cert is not None),
            allowance=self._allowance,
        )
        # Another revision's catalogs are not the ones that a chosen revision needs. With `user`, this process
        # may be root for a moment, and the user could not read what it writes into the cache then.
        fetches_early = source.revision is None and settings.user is None
        newest = Revisions(
            fetcher,
            directory,
            given,
            max_stale=settings.max_stale,
            on_announced=partial(_bring_announced, objects) if fetches_early else None,
        )
        revisions = _chosen(source, newest, objects)
        if known is None:
            first = self._first_revision(source, revisions, objects, anchor)
        else:
            revisions.offline(datetime.now(UTC))
            first = _FirstRevision(known, "", is_newest=False)
        refresher = Refresher(
            revisions,
            first.revision,
            on_advance,
            interval=settings.refresh,
            patience=settings.patience,
            error=first.warning,
            is_newest=first.is_newest,
        )
        collected = CollectedProfiles(fetcher, newest.targets)
        watcher = self._starts.of(first.revision.name) if self._starts is not None else None
        around = self._surroundings._replace(collected=collected.of, watcher=watcher)
        prefetcher = trio.from_thread.run_sync(Prefetcher, objects, lambda: self._cache.stats().limit, around)
        return ConnectedRepository(source, fetcher, revisions, objects, prefetcher, refresher, collected)

    def _first_revision(
        self,
        source: RepositorySource,
        revisions: "Revisions | ChosenRevision",
        objects: Objects,
        anchor: Anchor | UsageError,
    ) -> _FirstRevision:
        """Returns the revision that mounts showed last, or the last trusted one, if its root catalog is at
        hand. Otherwise returns the newest one, or the last trusted one if no newer one can be fetched.

        `anchor`: the start of trust that the settings give, or the error if they give none; raised if no
        revision is trusted yet. Raises LazyfsError.
        """
        now = datetime.now(UTC)
        stale: LazyfsError | None = None
        try:
            known = revisions.offline(now)
        except (BadData, TransportError, UsageError) as error:
            # Past --max-stale, or its history cannot be read or lacks --revision: a newer revision is needed.
            known, stale = None, error
        if source.revision is None:  # a date or name may mean another revision by now
            for one in (known and revisions.earlier(), known):
                if one is not None and objects.at_hand(one.root) is not None:
                    return _FirstRevision(one, "", is_newest=False)
        if known is None and stale is None and isinstance(anchor, UsageError):
            raise anchor
        objects.expect(FIRST_CATALOGS)
        deadline = time.monotonic() + (FIRST_LOOK if known else self._settings.patience)
        try:
            newest = revisions.refresh(now, deadline, trio.from_thread.check_cancelled)
            return _FirstRevision(newest, "", is_newest=True)
        except (TransportError, BadData, UnsupportedFormat) as error:
            if known is not None:
                log.warning("%s stays at revision %d: %s", without_secrets(source.url), known.number, error)
                return _FirstRevision(known, str(error), is_newest=True)
            if stale is not None:
                raise stale from error
            if isinstance(error, TrustError):
                raise TrustError(
                    f"{without_secrets(source.url)} with the root given by --trust: {error}"
                ) from error
            if isinstance(error, NotFound):
                raise NotFound(f"{error}; {NO_STORE}") from error
            if isinstance(error, Outage | DeadlineExceeded):
                raise type(error)(f"{error}; {NO_WAY}") from error
            raise


def _bring_announced(objects: Objects, catalogs: tuple[ObjectRef, ...]) -> None:
    """Begins to fetch the catalogs that a timestamp announces, unless they are here. A failure is left to the
    reader, who asks again. Called in a thread of trio."""

    def begin() -> None:
        for ref in catalogs:
            if objects.keeps and not objects.is_at_hand(ref):
                objects.bring(ref, lambda: None, optional=True)

    trio.from_thread.run_sync(begin)


def _chosen(source: RepositorySource, newest: Revisions, objects: Objects) -> "Revisions | ChosenRevision":
    """Returns the revisions to show: always the newest, or the one that was chosen."""
    if source.revision is None:
        return newest
    from lazyfs.client.trust.chosen_revision import ChosenRevision  # most mounts show the newest
    from lazyfs.core.history.choice import parse_choice

    def read(ref: ObjectRef) -> bytes:
        return trio.from_thread.run(partial(objects.fetch, ref, ahead=True))

    return ChosenRevision(newest, parse_choice(source.revision), read)
