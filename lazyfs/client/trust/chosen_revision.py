"""A revision chosen by the operator. The newest trusted revision proves it, and the mount shows no other
revision."""

import threading
from collections.abc import Callable
from datetime import datetime

from lazyfs.client.trust.report import TrustReport
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import LazyfsError, NotFound, UsageError
from lazyfs.core.history.choice import RevisionChoice, as_revision, choose
from lazyfs.core.history.head import decode
from lazyfs.core.history.records import Read
from lazyfs.core.params import Revision
from lazyfs.transport.fetcher import never_cancelled


class ChosenRevision:
    """Answers like Revisions, but always with the chosen revision. The newest revision is refreshed all the
    same, because its keys and its expiry decide whether the chosen one is trusted. Blocking; thread-safe."""

    def __init__(self, revisions: Revisions, choice: RevisionChoice, read: Read) -> None:
        """`read` returns the verified plaintext of an object of the repository."""
        self._revisions = revisions
        self._choice = choice
        self._read = read
        self._mutex = threading.Lock()
        self._chosen: Revision | None = None
        self._offline: Revision | None = None

    def offline(self, now: datetime) -> Revision | None:
        """Returns the chosen revision, found in the history of the persisted one, or in the history of
        `Revisions.earlier` if the persisted one's cannot be had; None if no revision is persisted. Reads the
        history from the cache or over the network. Raises as `refresh`, and as Revisions.offline."""
        newest = self._revisions.offline(now)
        earlier = self._revisions.earlier()
        with self._mutex:
            try:
                self._offline = newest and self._find(newest)
            except LazyfsError:
                if earlier is None:
                    raise
                self._offline = self._find(earlier)
            return self._offline

    def earlier(self) -> Revision | None:
        """Returns None: a mount that cannot show the chosen revision shows no other."""
        return None

    def note_shown(self, revision: Revision) -> None:
        """Does nothing: that the chosen revision is shown says nothing of the newest one."""

    def serving(self, now: datetime) -> Revision | None:
        """Returns the chosen revision; None if it was not found yet, or if no newest revision is trusted.
        Raises Expired if `max_stale` has passed since the newest one expired."""
        return self._chosen if self._revisions.serving(now) else None

    def refresh(
        self, now: datetime, deadline: float, check_cancelled: Callable[[], None] = never_cancelled
    ) -> Revision:
        """Refreshes the newest revision, and returns the chosen one.

        The first call that gets the newest revision looks the chosen one up in its history; later calls
        return the same. Raises as Revisions.refresh, UsageError if there is no such revision, TransportError
        or BadData if the history cannot be read; `serving` then returns the revision that `offline` has
        found.
        """
        try:
            newest = self._revisions.refresh(now, deadline, check_cancelled)
            with self._mutex:
                self._chosen = self._chosen or self._find(newest)
                return self._chosen
        except LazyfsError:
            self._chosen = self._chosen or self._offline
            raise

    def report(self, now: datetime) -> TrustReport:
        """Returns the state of trust in the newest revision, for `lazyfs status`."""
        return self._revisions.report(now)

    def _find(self, newest: Revision) -> Revision:
        if newest.history is None:
            raise UsageError(f"{newest.name} has no history yet: only its newest revision can be mounted")
        try:
            past = choose(decode(self._read(newest.history)), self._choice, self._read)
        except NotFound as error:
            raise NotFound(f"the history of {newest.name}: {error}") from error
        return as_revision(past, newest)
