"""The parts and settings that each run of the service works with, for lists (list_run) or for pushes
(push_run)."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from lazyfs.core.oci.manifest import Platform
from lazyfs.repository.keys import Keys
from lazyfs.store import Store
from lazyfs.sync.acknowledged import NOBODY, Acknowledged
from lazyfs.sync.committer import Committer, Onlooker
from lazyfs.sync.ledger import Ledger, News
from lazyfs.sync.quotas import Quota, quota_use
from lazyfs.sync.registries import Registries
from lazyfs.sync.resolution import FailedWish
from lazyfs.sync.settings import ServiceSettings
from lazyfs.sync.starts import NOT_ALLOWED, StartSettings, record_starts
from lazyfs.sync.state import State, WisherState
from lazyfs.sync.targets import Targets


class Workers(NamedTuple):
    """An executor whose processes read images."""

    executor: Executor
    store: str
    """The store's location as the processes open it."""


@dataclass(frozen=True)
class Service:
    """The parts and settings of the service, and the steps that every kind of run has."""

    store: Store
    keys: Keys
    registries: Registries
    settings: ServiceSettings
    platform: Platform
    now: Callable[[], datetime]
    save: Callable[[State], None]
    """Saves the state; called after each revision and at the end."""
    tell: Callable[[str], None]
    """Called with each line of progress."""
    platform_asked: bool = False
    max_age: float = 0.0
    """Seconds for which an answer about an image holds: before they are over, its registry is not asked
    again."""
    max_delete: int = 20
    dry_run: bool = False
    forgotten: tuple[str, ...] = ()
    """Names of lists that the operator has given up."""
    acknowledged: Acknowledged = NOBODY
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    """The quotas, by owner."""
    starts: StartSettings = NOT_ALLOWED
    announce: Callable[[Sequence[News]], None] = lambda _news: None
    """Called with the new events each time that the state has been saved."""
    monotonic: Callable[[], float] = time.monotonic
    workers: Workers | None = None
    """The processes that read images; None for threads of this process."""

    def record_starts(self, wished: Targets, ledger: Ledger) -> list[str]:
        """Records the starts of programs that wishes ask for, in new images (`starts`); call it after the
        images are in the tree. Does nothing in a dry run. Returns notices for the operator."""
        if self.dry_run:
            return []
        return record_starts(wished.by_place.values(), self.starts, self.store, self.keys, ledger)

    def keep(self, ledger: Ledger) -> None:
        """Saves the state, then announces the events since it was last saved."""
        state = ledger.state
        self.acknowledged.note(state)
        there = {place: image for place, image in state.images.items() if image.digest}
        owned = [(place, [one.owner for one in image.wishes]) for place, image in there.items()]
        state.quotas = quota_use(owned, {place: image.size for place, image in there.items()}, self.quotas)
        self.save(state)
        if news := ledger.news():
            self.announce(news)

    def committer(self) -> Committer:
        """Returns the Committer of this run; in a dry run, an Onlooker, which changes nothing."""
        if self.dry_run:
            return Onlooker(self.store)
        return Committer(self.store, self.keys, self.now, last_update=self.settings.last_update)


def tell_failed(ledger: Ledger, wishes: Iterable[FailedWish]) -> None:
    """Notes the failed wishes in the ledger."""
    for failed in wishes:
        wish = failed.wish
        who = WisherState(failed.list, wish.line, wish.shown, wish.extras.owner)
        ledger.wish_fails(who, failed.failure.reason)
