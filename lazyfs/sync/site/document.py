"""The status of a service as one JSON document, and its schema."""

import msgspec

from lazyfs.sync.conditions import ImageCondition, conditions, counts
from lazyfs.sync.quotas import QuotaUse
from lazyfs.sync.report import Event
from lazyfs.sync.state import AcknowledgedState, ListState, RunState, State

FORMAT = 1


class ListStatus(msgspec.Struct, frozen=True):
    """The status of one wishlist."""

    name: str
    format: str
    wishes: int
    read: int
    """The time at which the list was last read. All times are seconds since 1970."""
    good: int
    """The time at which the list was last valid. The content of that time is in force."""
    problems: list[str]
    acknowledged: AcknowledgedState | None = None
    """The acknowledgement of the problems; None if there is none."""


class StatusDocument(msgspec.Struct, frozen=True):
    """The content of status.json."""

    format: int
    repository: str
    made: int
    run: RunState
    counts: dict[str, int]
    """Condition -> number of images in it."""
    images: list[ImageCondition]
    lists: list[ListStatus]
    events: list[Event]
    """The latest events, newest first."""
    quotas: dict[str, QuotaUse] = {}
    """Owner -> use of the owner's quota, for the owners who have one."""


def document(state: State, events: list[Event], now: int) -> StatusDocument:
    """Returns the status of the service. `events`: the latest events, newest first. `now`: seconds since
    1970."""
    images = conditions(state.images)
    lists = [_list_status(name, one) for name, one in sorted(state.lists.items())]
    return StatusDocument(
        FORMAT, state.repository, now, state.run, counts(images), images, lists, events, state.quotas
    )


def public_document(whole: StatusDocument, state: State) -> StatusDocument:
    """Returns the part of the status that everybody who reaches the store may read. It has only the images of
    the tree that need no account. It has no wishes, owners or lists. Of an acknowledgement it has only the
    date."""
    images = [
        msgspec.structs.replace(one, wishes=(), acknowledged=None)
        for one in whole.images
        if one.digest and not state.images[one.image].private
    ]
    names = {one.image for one in images}
    events = [msgspec.structs.replace(one, owners=()) for one in whole.events if one.image in names]
    return msgspec.structs.replace(
        whole, counts=counts(images), images=images, lists=[], events=events, quotas={}
    )


def _list_status(name: str, one: ListState) -> ListStatus:
    return ListStatus(name, one.format, one.wishes, one.read, one.good, one.problems, one.acknowledged)


def schema() -> bytes:
    """Returns the JSON Schema of status.json."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(StatusDocument)), indent=2) + b"\n"
