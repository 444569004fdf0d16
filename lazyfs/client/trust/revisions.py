"""The revision a client trusts: advanced over the network, persisted, and served through every failure.

Requests. A refresh that finds nothing new is one request, the timestamp. The next root is asked for on
two occasions: together with a new revision's snapshot and targets, before the revision is taken; and whenever
the timestamp is not trusted. So no file signed by a revoked key can become a new revision, and a refresh
without news does not pay for a 404. A first mount takes two round trips: roots and timestamp, then snapshot
and targets, whose file names share the version number. The catalogs that the timestamp announces are told of
before the second, so that they can be fetched meanwhile. The first refresh after a start, and one refresh a
day, asks for the next root together with the timestamp, so that a thief of a replaced timestamp key cannot
hold a worker back for ever. A file that is not trusted is asked for once more past all caches.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from tuf.api.metadata import Snapshot, Targets

from lazyfs.client.trust.anchor import Anchor
from lazyfs.client.trust.metadata_files import Ask, MetadataFiles
from lazyfs.client.trust.refresh_attempt import RefreshAttempt, ask_file, ask_root, ask_timestamp
from lazyfs.client.trust.report import TrustReport
from lazyfs.client.trust.trust_file import TrustFile
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import BadData, LazyfsError, TrustError, UnsupportedFormat, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.trust.errors import Expired, WrongRoot
from lazyfs.core.trust.roles import (
    MAX_ROOT,
    MAX_TARGETS,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    file_name,
)
from lazyfs.core.trust.signed import when
from lazyfs.core.trust.state import TrustState, bootstrap
from lazyfs.core.trust.update import Update, WantedFile
from lazyfs.transport.fetcher import Fetcher, never_cancelled

ROOT_PROBE = 86_400.0
"""After this many seconds without a look for a newer root, a refresh asks for the next root together with the
timestamp."""

_FIRST_ROOT = file_name(ROOT, 1)
_STAMP = file_name(TIMESTAMP, 0)


class Revisions:
    """The trusted revisions of one repository. Blocking; thread-safe, one refresh at a time."""

    def __init__(
        self,
        fetcher: Fetcher,
        state_dir: str,
        anchor: Anchor | None,
        *,
        max_stale: float | None = None,
        wall_clock: Callable[[], float] = time.time,
        on_announced: Callable[[tuple[ObjectRef, ...]], None] | None = None,
    ) -> None:
        """`anchor`: the root or fingerprint given by the operator; None trusts the persisted state.
        `max_stale`: seconds past expiry after which the last trusted revision is no longer served (None: it
        is served for ever). `on_announced`: called, in the thread of `refresh`, with the catalogs that the
        timestamp of a new revision announces, before the revision is verified; returns at once."""
        self._files = MetadataFiles(fetcher)
        self._file = TrustFile(state_dir)
        self._anchor = anchor
        self._max_stale = max_stale
        self._wall_clock = wall_clock
        self._on_announced = on_announced
        self._mutex = threading.Lock()
        self._state: TrustState | None = None
        self._unsupported: tuple[bytes, UnsupportedFormat] | None = None
        self._refreshed = 0.0
        self._probed = float("-inf")
        """The time at which the server was last found to have no newer root."""
        self._error = ""

    def offline(self, now: datetime) -> Revision | None:
        """Returns the persisted revision, after its signatures, versions and hashes were checked again. Uses
        no network, and ignores the revision's expiry.

        Returns None if no revision is persisted; `report().problem` has the reason if the persisted file is
        unusable. Raises Expired past `max_stale`.
        """
        with self._mutex:
            self._reload()
        return self.serving(now)

    def serving(self, now: datetime) -> Revision | None:
        """Returns the last trusted revision; None if none is trusted. Raises Expired if `max_stale` has
        passed since the revision expired."""
        state = self._state
        if state is None or state.proven is None:
            return None
        expires = state.proven.timestamp.expires
        if self._max_stale is not None and (now - expires).total_seconds() > self._max_stale:
            raise Expired(
                f"the last trusted revision {state.proven.revision.number} expired on {when(expires)}, "
                f"longer ago than --max-stale {self._max_stale:g} s: no newer one could be had"
            )
        return state.proven.revision

    def earlier(self) -> Revision | None:
        """Returns the revision that mounts showed before the last trusted one, and that a mount begins with;
        None once a mount has shown the last trusted one."""
        state = self._state
        return state.earlier.revision if state is not None and state.earlier is not None else None

    def note_shown(self, revision: Revision) -> None:
        """Notes that a mount shows this revision, and persists that. Waits for the disk only."""
        with self._mutex:
            self._reload()
            if self._state is not None:
                self._keep(self._state.note_shown(revision))

    def refresh(
        self, now: datetime, deadline: float, check_cancelled: Callable[[], None] = never_cancelled
    ) -> Revision:
        """Returns the newest revision that the server proves; it is persisted first.

        `deadline` is on time.monotonic()'s clock. Raises a TrustError subclass, TransportError, or
        UnsupportedFormat; the last trusted revision then stays trusted, and new roots are kept.
        """
        with self._mutex:
            try:
                revision = self._refresh(RefreshAttempt(self._files, now, deadline, check_cancelled))
            except LazyfsError as error:
                self._error = str(error)
                raise
            self._error = ""
            self._refreshed = self._wall_clock()
            return revision

    def targets(self) -> Targets | None:
        """Returns the signed targets of the last trusted revision, which name the delegated keys."""
        state = self._state
        return state.proven.targets if state is not None and state.proven is not None else None

    def report(self, now: datetime) -> TrustReport:
        """Returns the state of trust for `lazyfs status`."""
        state = self._state
        proven = state.proven if state else None
        return TrustReport(
            repository=proven.revision.name if proven else "",
            revision=proven.revision.number if proven else 0,
            published=proven.revision.time if proven else 0,
            root_version=state.root.version if state else 0,
            timestamp_version=proven.timestamp.version if proven else 0,
            expires=int(proven.timestamp.expires.timestamp()) if proven else 0,
            expired=bool(proven and proven.timestamp.is_expired(now)),
            refreshed=self._refreshed,
            error=self._error,
            problem=self._file.problem,
        )

    def _reload(self) -> None:
        """Takes over the persisted state if another process has written it."""
        if self._file.changed():
            self._state = self._file.load(self._anchor) or self._state

    def _keep(self, state: TrustState) -> TrustState:
        if state is not self._state or self._file.owed:
            self._state = state
            self._file.save(state, self._anchor)
        return state

    def _refresh(self, attempt: RefreshAttempt) -> Revision:
        self._reload()
        try:
            return self._try(attempt)
        except TrustError:
            attempt.ask_the_origin()
            return self._try(attempt)

    def _try(self, attempt: RefreshAttempt) -> Revision:
        if self._state is None:
            stamp = self._first_contact(attempt)
        elif self._wall_clock() - self._probed > ROOT_PROBE:
            version = self._state.root.version + 1
            got = attempt.get(ask_timestamp(), ask_root(version))
            self._follow_roots(attempt, self._state, got.get(file_name(ROOT, version)), asked=True)
            stamp = got[_STAMP]
        else:
            stamp = attempt.get(ask_timestamp())[_STAMP]
        try:
            return self._advance(attempt, stamp)
        except TrustError:
            before = self._state
            if attempt.probed or before is None or self._follow_roots(attempt, before) is before:
                raise
        return self._advance(attempt, stamp)

    def _first_contact(self, attempt: RefreshAttempt) -> bytes:
        """Fetches and follows the roots, beginning with the anchor. Returns the timestamp, which was fetched
        along with them."""
        anchor = self._anchor
        if anchor is None:
            raise UsageError("nothing is trusted yet: give --trust FINGERPRINT or --trust ROOT.json")
        refused: list[WrongRoot] = []
        if isinstance(anchor, TrustState):
            asks = [ask_root(anchor.root.version + 1), ask_timestamp()]
        else:

            def accept(data: bytes) -> bytes:
                try:
                    bootstrap(data, anchor)
                except WrongRoot as error:
                    refused.append(error)
                    raise
                return data

            asks = [Ask(_FIRST_ROOT, MAX_ROOT, accept=accept), ask_root(2), ask_timestamp()]
        try:
            got = attempt.get(*asks)
        except BadData:
            if refused:  # by every path: they do not lie, the fingerprint is another repository's
                raise refused[-1] from None
            raise
        state = anchor if isinstance(anchor, TrustState) else bootstrap(got[_FIRST_ROOT], anchor)
        self._follow_roots(attempt, state, got.get(file_name(ROOT, state.root.version + 1)), asked=True)
        return got[_STAMP]

    def _follow_roots(
        self, attempt: RefreshAttempt, state: TrustState, data: bytes | None = None, *, asked: bool = False
    ) -> TrustState:
        """Fetches and follows every newer root, and persists the result once at the end. `asked`: True if the
        first of these roots was asked for already; `data` is that root, or None if the server has none."""
        try:
            while True:
                if not asked:
                    name = file_name(ROOT, state.root.version + 1)
                    data = attempt.get(ask_root(state.root.version + 1)).get(name)
                asked = False
                if data is None:
                    attempt.probed = True
                    self._probed = self._wall_clock()
                    return state
                attempt.count_root(data)
                state = state.add_root(data)
        finally:
            self._keep(state)

    def _advance(self, attempt: RefreshAttempt, stamp: bytes) -> Revision:
        """Fetches and verifies the files that a timestamp leads to, and returns their revision."""
        assert self._state is not None
        update = Update(self._state, attempt.now)
        wanted = update.timestamp(stamp)
        if wanted is not None:
            if self._unsupported and self._unsupported[0] == stamp:
                raise self._unsupported[1]
            if self._on_announced is not None and update.announced:
                self._on_announced(update.announced)
            got = self._fetch_revision(attempt, wanted)
            if update.state is not self._state:  # a newer root came along: its keys count
                return self._advance(attempt, stamp)
            next_wanted = update.snapshot(got[wanted.name])
            targets = got.get(next_wanted.name)
            if targets is None:
                targets = attempt.get(ask_file(Targets, next_wanted))[next_wanted.name]
            try:
                update.targets(targets)
            except UnsupportedFormat as error:
                self._unsupported = stamp, error
                raise
        state = self._keep(update.state)
        assert state.proven is not None
        return state.proven.revision

    def _fetch_revision(self, attempt: RefreshAttempt, wanted: WantedFile) -> dict[str, bytes]:
        """Fetches the snapshot, the targets of the same number if they exist, and the next root if it exists.
        Returns the files by name."""
        assert self._state is not None
        guess = WantedFile(wanted.name.replace(SNAPSHOT, TARGETS), MAX_TARGETS)
        asks = [ask_file(Snapshot, wanted), ask_file(Targets, guess, optional=True)]
        if attempt.probed:
            return attempt.get(*asks)
        version = self._state.root.version + 1
        got = attempt.get(*asks, ask_root(version))
        self._follow_roots(attempt, self._state, got.get(file_name(ROOT, version)), asked=True)
        return got
