"""One run of the service: lists, registries, tree. Each image fails alone and keeps its last good version."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lazyfs.core.oci.manifest import Platform
from lazyfs.repository.keys import Keys
from lazyfs.store import Store
from lazyfs.sync.committer import Committer, Onlooker
from lazyfs.sync.ledger import Ledger
from lazyfs.sync.lists import GivenList
from lazyfs.sync.publishing import Publishing
from lazyfs.sync.registries import Registries
from lazyfs.sync.removal import UNWISHED, Leaving, Lists, due, leaving
from lazyfs.sync.report import MOVED, REMOVED, Report
from lazyfs.sync.resolution import Gone, Resolution, Resolver
from lazyfs.sync.settings import ServiceSettings
from lazyfs.sync.state import ListState, RunState, State
from lazyfs.sync.targets import Targets, place_reference, targets


@dataclass(frozen=True)
class Service:
    """Everything that a run works with."""

    store: Store
    keys: Keys
    registries: Registries
    settings: ServiceSettings
    platform: Platform
    now: Callable[[], datetime]
    save: Callable[[State], None]
    """Keeps the state; called after each revision and at the end."""
    tell: Callable[[str], None]
    """Called with each line of progress."""
    platform_asked: bool = False
    max_age: float = 0.0
    """Seconds for which an image that was asked for is not asked for again."""
    max_delete: int = 20
    dry_run: bool = False
    forgotten: tuple[str, ...] = ()
    """Names of lists that the operator gives up."""
    monotonic: Callable[[], float] = time.monotonic

    def run(self, lists: Sequence[GivenList], state: State) -> Report:
        """Brings the tree to the state that the lists wish. Raises LazyfsError if the store or its keys
        fail."""
        began = int(self.now().timestamp())
        ledger = Ledger(state, self.now)
        resolver = Resolver(self.registries, self.platform, state.dates, lambda: self.now().timestamp())
        resolution = resolver.resolve(lists)
        wished = targets(resolution.resolved, self.settings.layout)
        for failed in resolution.failed:
            owners = (failed.wish.extras.owner,) if failed.wish.extras.owner else ()
            ledger.wish_fails(
                f"{failed.list}:{failed.wish.line} {failed.wish.shown}", failed.failure.reason, owners
            )
        failing = {(one.list, one.wish.shown) for one in resolution.failed if one.holds}
        said = Lists.of(lists, failing, self.forgotten)
        ledger.wished(wished.by_place.values(), said.silent)
        with self._committer() as committer:
            gone = Publishing(self, committer, ledger, resolver, wished).run()
            candidates = leaving(
                state.images,
                wished.by_place,
                said,
                lambda place: _listed(place, resolution),
            )
            reasons = _reasons(candidates, gone, resolver, state, committer.keep_alive)
            refused = self._remove(reasons, committer, ledger)
            ledger.forget_unknown(wished.by_place)
            revision = committer.base.number
        report = Report(
            ledger.events,
            ledger.unchanged,
            revision,
            _notices(lists, wished),
            sum(not one.complete for one in lists),
            refused,
        )
        if not self.dry_run:
            state.lists.update((one.name, _list_state(one, state, began)) for one in lists)
            for name in self.forgotten:
                state.lists.pop(name, None)
            state.run = _run_state(began, ledger.time, report)
            self.save(state)
        return report

    def _committer(self) -> Committer:
        if self.dry_run:
            return Onlooker(self.store)
        return Committer(self.store, self.keys, self.now, last_update=self.settings.last_update)

    def _remove(self, reasons: dict[str, str], committer: Committer, ledger: Ledger) -> str:
        """Takes the images that are due out of the tree. Returns the reason if some are due and none is
        taken; otherwise an empty text."""
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
    """Returns place -> the reason why it may leave. Asks the registries about images that are only missing in
    a list of tags. A private image counts as gone only if its account was told so. `meanwhile` is called
    during the questions."""
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
