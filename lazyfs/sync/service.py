"""One run of the service: reads lists, asks registries, changes the tree. A failed image affects no other and
keeps its last good version."""

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
from lazyfs.sync.lists import GivenList
from lazyfs.sync.publishing import Publishing
from lazyfs.sync.quotas import OwnersRoom, Quota, quota_use
from lazyfs.sync.registries import Registries
from lazyfs.sync.removal import UNWISHED, Leaving, Lists, due, leaving
from lazyfs.sync.report import MOVED, REMOVED, Report
from lazyfs.sync.resolution import FailedWish, Gone, Resolution, Resolver
from lazyfs.sync.settings import ServiceSettings
from lazyfs.sync.starts import NOT_ALLOWED, StartSettings, record_starts
from lazyfs.sync.state import ListState, RunState, State, WisherState
from lazyfs.sync.targets import Targets, place_reference, targets


class Workers(NamedTuple):
    """An executor whose processes read images."""

    executor: Executor
    store: str
    """The store's location as the processes open it."""


@dataclass(frozen=True)
class Service:
    """The parts and settings that a run works with."""

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
    """Owner -> quota."""
    starts: StartSettings = NOT_ALLOWED
    announce: Callable[[Sequence[News]], None] = lambda _news: None
    """Called with the new events each time that the state has been saved."""
    monotonic: Callable[[], float] = time.monotonic
    workers: Workers | None = None
    """The processes that read images; None for threads of this process."""

    def run(self, lists: Sequence[GivenList], state: State) -> Report:
        """Makes the tree what the lists wish. Raises LazyfsError if the store or its keys fail."""
        began = int(self.now().timestamp())
        ledger = Ledger(state, self.now, self.acknowledged)
        resolver = Resolver(self.registries, self.platform, state.dates, lambda: self.now().timestamp())
        resolution = resolver.resolve(lists)
        wished = targets(resolution.resolved, self.settings.layout)
        tell_failed(ledger, resolution.failed)
        failing = {(one.list, one.wish.shown) for one in resolution.failed if one.holds}
        said = Lists.of(lists, failing, self.forgotten)
        ledger.wished(wished.by_place.values(), said.silent)
        with self.committer() as committer:
            reasons = self._publish(wished, said, committer, ledger, resolver, resolution)
            refused = self._remove(reasons, committer, ledger)
            ledger.forget_unknown(wished.by_place)
            revision = committer.base.number
        said_of_starts = self.record_starts(wished, ledger)
        report = Report(
            ledger.events,
            ledger.unchanged,
            revision,
            [*_notices(lists, wished), *said_of_starts, *self.acknowledged.ended()],
            sum(not one.complete and not self.acknowledged.until(one.name) for one in lists),
            refused,
        )
        if not self.dry_run:
            state.lists.update((one.name, _list_state(one, state, began)) for one in lists)
            for name in self.forgotten:
                state.lists.pop(name, None)
            state.run = _run_state(began, ledger.time, report)
            ledger.forget_mended_wishes()
            self.keep(ledger)
        return report

    def _publish(
        self,
        wished: Targets,
        said: Lists,
        committer: Committer,
        ledger: Ledger,
        resolver: Resolver,
        resolution: Resolution,
    ) -> dict[str, str]:
        """Publishes the wished images; returns place -> reason, for the images that may leave."""
        images = ledger.state.images
        owned = [(one.place, one.owners) for one in wished.by_place.values()]
        room = OwnersRoom(owned, {place: image.size for place, image in images.items()}, self.quotas)
        full = room.refused
        for place, reason in full.items():
            ledger.fails(wished.by_place[place], reason)
        fitting = {place: one for place, one in wished.by_place.items() if place not in full}
        gone = Publishing(self, committer, ledger, resolver, Targets(fitting, []), room).run()
        candidates = leaving(images, wished.by_place, said, lambda place: _listed(place, resolution))
        reasons = _reasons(candidates, gone, resolver, ledger.state, committer.keep_alive)
        return reasons | {place: reason for place, reason in full.items() if images[place].digest}

    def record_starts(self, wished: Targets, ledger: Ledger) -> list[str]:
        """Records the starts that are due; call it after the images are in the tree. Returns notices for the
        operator."""
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

    def _remove(self, reasons: dict[str, str], committer: Committer, ledger: Ledger) -> str:
        """Removes the images that are due. If they are too many, removes none and returns the reason;
        otherwise returns an empty text."""
        images = ledger.state.images
        grace = self.settings.grace_hours * 3600
        found = due(images, reasons, ledger.time, grace, self.max_delete)
        if found.too_many:
            return (
                f"{found.too_many} images would leave the tree, over {self.max_delete}: none does; "
                "look at the lists, then give --max-delete"
            )
        if self.dry_run:
            for place in found.now:
                ledger.would(REMOVED, place, reasons[place])
            return ""
        kept = ledger.paths(without=set(found.now))
        if found.now:  # at once: each removal reads the configs of all images that stay
            committer.remove(path for place in found.now for path in images[place].paths if path not in kept)
        if found.now or any(event.event == MOVED for event in ledger.events):
            committer.tidy()
        committer.commit(kept)
        for place in found.now:
            ledger.leaves(place, reasons[place], committer.base.number)
        return ""


def tell_failed(ledger: Ledger, wishes: Iterable[FailedWish]) -> None:
    """Notes the failed wishes in the ledger."""
    for failed in wishes:
        wish = failed.wish
        who = WisherState(failed.list, wish.line, wish.shown, wish.extras.owner)
        ledger.wish_fails(who, failed.failure.reason)


def _listed(place: str, resolution: Resolution) -> bool | None:
    reference = place_reference(place)
    tags = resolution.listed.get((reference.registry, reference.repository))
    return None if tags is None else reference.tag in tags


def _reasons(
    candidates: list[Leaving],
    gone: dict[str, str],
    resolver: Resolver,
    state: State,
    meanwhile: Callable[[], None],
) -> dict[str, str]:
    """Returns place -> reason, for the images that may leave. A candidate with `ask` may leave only if its
    registry says that the tag is gone. A private image that is still wished may leave only if the registry
    has answered a request made with the service's account. `meanwhile`: called while registries are asked."""
    ask = [one for one in candidates if one.ask]
    answers = resolver.digests((place_reference(one.place) for one in ask), meanwhile)
    reasons = {one.place: one.reason for one in candidates if not one.ask}
    for one, answer in zip(ask, answers, strict=True):
        if isinstance(answer, Gone):
            reasons[one.place] = answer.reason
    reasons |= {place: reason for place, reason in gone.items() if state.images[place].digest}
    return {
        place: reason
        for place, reason in reasons.items()
        if reason == UNWISHED
        or not state.images[place].private
        or resolver.told_account(place_reference(place))
    }


def _notices(lists: Sequence[GivenList], wished: Targets) -> list[str]:
    said = []
    for given in lists:
        said += [finding.text(given.name) for finding in given.problems]
        if given.kept:
            said.append(
                f"{given.name}: its last good content stays in force ({len(given.lists.wishes)} wishes)"
            )
    return said + wished.collisions


def _list_state(given: GivenList, state: State, now: int) -> ListState:
    before = state.lists.get(given.name, ListState())
    good = before.good if given.fresh is None else now
    problems = [finding.text(given.name) for finding in given.problems]
    return ListState(given.lists.format, len(given.lists.wishes), now, good, problems)


def _run_state(began: int, ended: int, report: Report) -> RunState:
    return RunState(
        began,
        ended,
        report.revision,
        report.count("published", "moved"),
        report.unchanged,
        report.count("failed", "waiting"),
        report.count("removed"),
    )
