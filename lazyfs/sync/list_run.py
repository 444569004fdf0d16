"""A run for lists: reads lists, asks registries, changes the tree. A failed image affects no other and keeps
its last good version."""

from collections.abc import Callable, Sequence

from lazyfs.sync.committer import Committer
from lazyfs.sync.ledger import Ledger
from lazyfs.sync.lists import GivenList
from lazyfs.sync.publishing import Publishing
from lazyfs.sync.quotas import OwnersRoom
from lazyfs.sync.removal import UNWISHED, Leaving, Lists, due, leaving
from lazyfs.sync.report import MOVED, REMOVED, Report
from lazyfs.sync.resolution import Gone, Resolution, Resolver
from lazyfs.sync.service import Service, tell_failed
from lazyfs.sync.state import ListState, RunState, State
from lazyfs.sync.targets import Targets, place_reference, targets


def run_lists(service: Service, lists: Sequence[GivenList], state: State) -> Report:
    """Brings the tree in line with the lists: publishes the images that they wish, and removes images that
    have to leave. Raises LazyfsError if the store or its keys fail."""
    began = int(service.now().timestamp())
    ledger = Ledger(state, service.now, service.acknowledged)
    resolver = Resolver(service.registries, service.platform, state.dates, lambda: service.now().timestamp())
    resolution = resolver.resolve(lists)
    wished = targets(resolution.resolved, service.settings.layout)
    tell_failed(ledger, resolution.failed)
    failing = {(one.list, one.wish.shown) for one in resolution.failed if one.holds}
    said = Lists.of(lists, failing, service.forgotten)
    ledger.wished(wished.by_place.values(), said.silent)
    with service.committer() as committer:
        reasons = _publish(service, wished, said, committer, ledger, resolver, resolution)
        refused = _remove(service, reasons, committer, ledger)
        ledger.forget_unknown(wished.by_place)
        revision = committer.base.number
    said_of_starts = service.record_starts(wished, ledger)
    report = Report(
        ledger.events,
        ledger.unchanged,
        revision,
        [*_notices(lists, wished), *said_of_starts, *service.acknowledged.ended()],
        sum(not one.complete and not service.acknowledged.until(one.name) for one in lists),
        refused,
    )
    if not service.dry_run:
        state.lists.update((one.name, _list_state(one, state, began)) for one in lists)
        for name in service.forgotten:
            state.lists.pop(name, None)
        state.run = _run_state(began, ledger.time, report)
        ledger.forget_mended_wishes()
        service.keep(ledger)
    return report


def _publish(
    service: Service,
    wished: Targets,
    said: Lists,
    committer: Committer,
    ledger: Ledger,
    resolver: Resolver,
    resolution: Resolution,
) -> dict[str, str]:
    """Publishes the wished images; returns the images that may leave: place -> reason. `said`: the evidence
    of the lists about images that may leave."""
    images = ledger.state.images
    owned = [(one.place, one.owners) for one in wished.by_place.values()]
    room = OwnersRoom(owned, {place: image.size for place, image in images.items()}, service.quotas)
    full = room.refused
    for place, reason in full.items():
        ledger.fails(wished.by_place[place], reason)
    fitting = {place: one for place, one in wished.by_place.items() if place not in full}
    gone = Publishing(service, committer, ledger, resolver, Targets(fitting, []), room).run()
    candidates = leaving(images, wished.by_place, said, lambda place: _listed(place, resolution))
    reasons = _reasons(candidates, gone, resolver, ledger.state, committer.keep_alive)
    return reasons | {place: reason for place, reason in full.items() if images[place].digest}


def _remove(service: Service, reasons: dict[str, str], committer: Committer, ledger: Ledger) -> str:
    """Removes the images that are due to leave. If they are too many, removes none and returns the reason;
    otherwise returns an empty text."""
    images = ledger.state.images
    grace = service.settings.grace_hours * 3600
    found = due(images, reasons, ledger.time, grace, service.max_delete)
    if found.too_many:
        return (
            f"{found.too_many} images would leave the tree, over {service.max_delete}: none does; "
            "look at the lists, then give --max-delete"
        )
    if service.dry_run:
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
    """Returns the images that may leave: place -> reason. A candidate whose field `ask` is True may leave
    only if its registry says that the tag is gone. A private image that is still wished may leave only if the
    registry has answered a request made with the service's account. `meanwhile`: called while registries are
    asked."""
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
