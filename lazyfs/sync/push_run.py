"""A run for pushes: asks registries only for those wished images that were pushed. It removes nothing from
the tree."""

from collections.abc import Iterable, Sequence

from lazyfs.core.webhooks.pushes import Push, PushedImages
from lazyfs.core.wishlist.wish import Wish
from lazyfs.sync.ledger import Ledger
from lazyfs.sync.lists import GivenList
from lazyfs.sync.publishing import Publishing
from lazyfs.sync.quotas import OwnersRoom
from lazyfs.sync.removal import Lists
from lazyfs.sync.report import MOVED, Report
from lazyfs.sync.resolution import Resolver
from lazyfs.sync.service import Service, tell_failed
from lazyfs.sync.state import State
from lazyfs.sync.targets import Resolved, Target, Targets, targets


def run_pushes(service: Service, lists: Sequence[GivenList], state: State, pushes: Sequence[Push]) -> Report:
    """Publishes the pushed images that are wished, if their tags have moved. Raises as `run_lists`.

    The bodies of webhooks prove nothing. As in every run, a registry is asked which digest each tag names, so
    a push that is reported twice, late or falsely changes nothing. No registry is asked about a push of an
    image that no list wishes.
    """
    ledger = Ledger(state, service.now, service.acknowledged)
    dates = dict(state.dates)
    resolver = Resolver(service.registries, service.platform, dates, lambda: service.now().timestamp())
    pushed = PushedImages(pushes)
    direct, asked = _meant(lists, pushed)
    resolution = resolver.resolve(asked)
    state.dates.update(dates)
    found = targets([*direct, *resolution.resolved], service.settings.layout)
    wished = Targets(
        {place: one for place, one in found.by_place.items() if _pushed(one, pushed)}, found.collisions
    )
    tell_failed(ledger, resolution.failed)
    if not wished.by_place:
        if ledger.events:
            service.keep(ledger)
        return Report(ledger.events, 0, state.run.revision, [], 0)
    failing = {(one.list, one.wish.shown) for one in resolution.failed}
    ledger.wished(wished.by_place.values(), Lists.of(lists, failing, ()).silent)
    _leave_taken_paths(wished.by_place.values(), ledger)
    room = _room(service, state, wished)
    for place in room.refused.keys() & wished.by_place.keys():
        ledger.fails(wished.by_place.pop(place), room.refused[place])
    with service.committer() as committer:
        Publishing(service, committer, ledger, resolver, wished, room).run()
        if any(event.event == MOVED for event in ledger.events):
            committer.tidy()
            committer.commit(ledger.paths())
        revision = committer.base.number
    said = service.record_starts(wished, ledger)
    service.keep(ledger)
    return Report(ledger.events, ledger.unchanged, revision, [*wished.collisions, *said], 0)


def _meant(lists: Iterable[GivenList], pushed: PushedImages) -> tuple[list[Resolved], list[GivenList]]:
    """Selects the wishes for those registries' repositories that have got pushes. Returns (resolved, lists).
    `resolved`: the wishes whose tags are known from the pushes alone. `lists`: the given lists, reduced to
    the wishes for which a registry has to list the tags. That is needed if a push named no tag, or if the
    wish's choice depends on tags that were not pushed."""
    direct: list[Resolved] = []
    asked: list[GivenList] = []
    for given in lists:
        open_wishes = []
        for wish in given.lists.wishes:
            ours = pushed.into(wish.reference.registry, wish.reference.repository)
            if not ours:
                continue
            if wish.choice is None:
                direct.append(Resolved(given.name, wish, [wish.reference]))
            elif all(push.tag for push in ours) and not _depends(wish):
                tags = wish.choice.of(push.tag for push in ours)
                direct.append(Resolved(given.name, wish, [wish.reference._replace(tag=tag) for tag in tags]))
            else:
                open_wishes.append(wish)
        asked.append(given._replace(lists=given.lists._replace(wishes=tuple(open_wishes))))
    return direct, asked


def _depends(wish: Wish) -> bool:
    """Returns True if a wish's choice of tags depends on the other tags, or on the tags' dates."""
    retention = wish.choice.retention if wish.choice else None
    return bool(retention and (retention.last or retention.needs_dates))


def _pushed(target: Target, pushed: PushedImages) -> bool:
    reference = target.reference
    return pushed.has(reference.registry, reference.repository, reference.tag)


def _room(service: Service, state: State, wished: Targets) -> OwnersRoom:
    """Returns the room that the owners' quotas leave. Images that are in the tree get room before new
    images."""
    there = [
        (place, [one.owner for one in image.wishes]) for place, image in state.images.items() if image.digest
    ]
    known = {place for place, _ in there}
    new = [(one.place, one.owners) for one in wished.by_place.values() if one.place not in known]
    sizes = {place: image.size for place, image in state.images.items()}
    return OwnersRoom([*there, *new], sizes, service.quotas)


def _leave_taken_paths(wished: Iterable[Target], ledger: Ledger) -> None:
    """Takes from each target its second path, the one without the registry's name, if another image has that
    path already. Only runs that see all wishes may decide which of two images gets the path."""
    for target in wished:
        target.osg = target.osg and not ledger.paths(without=[target.place]) & {target.grid_place}
