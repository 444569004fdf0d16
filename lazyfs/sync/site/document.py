"""The status of a service as one JSON document, and its schema."""

import msgspec

from lazyfs.sync.conditions import ImageCondition, conditions, counts
from lazyfs.sync.report import Event
from lazyfs.sync.state import ListState, RunState, State

FORMAT = 1


class ListStatus(msgspec.Struct, frozen=True):
    """One wishlist."""

    name: str
    format: str
    wishes: int
    read: int
    """The time at which it was last looked at: seconds since 1970, as all times."""
    good: int
    """The time at which it was last a valid list: that content is in force."""
    problems: list[str]


class StatusDocument(msgspec.Struct, frozen=True):
    """status.json."""

    format: int
    repository: str
    made: int
    run: RunState
    counts: dict[str, int]
    """Condition -> number of images."""
    images: list[ImageCondition]
    lists: list[ListStatus]
    events: list[Event]
    """The latest events, newest first."""


def document(state: State, events: list[Event], now: int) -> StatusDocument:
    """Returns the status; `events`: the latest, newest first."""
    images = conditions(state.images)
    lists = [_list_status(name, one) for name, one in sorted(state.lists.items())]
    return StatusDocument(FORMAT, state.repository, now, state.run, counts(images), images, lists, events)


def _list_status(name: str, one: ListState) -> ListStatus:
    return ListStatus(name, one.format, one.wishes, one.read, one.good, one.problems)


def schema() -> bytes:
    """Returns the JSON Schema of status.json."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(StatusDocument)), indent=2) + b"\n"
