"""The events of a run, each about one image, wish or list: for the command line, the status site and the
event file."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

PUBLISHED, MOVED, REMOVED, FAILED, WAITING = "published", "moved", "removed", "failed", "waiting"
WOULD = {PUBLISHED: "would publish", MOVED: "would move", REMOVED: "would remove"}


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened to one image, wish or list; a line of the event file."""

    time: int
    """Seconds since 1970."""
    event: str
    """`published`, `moved`, `removed`, `failed`, `waiting`."""
    image: str
    """The image's place; or the wish or the list that failed."""
    digest: str = ""
    before: str = ""
    """The digest that the image had before."""
    revision: int = 0
    reason: str = ""
    new: bool = True
    """False for a failure that the last run had too."""
    owners: tuple[str, ...] = ()
    acknowledged: str = ""
    """The date until which the operator has acknowledged the failure; empty if there is no
    acknowledgement."""

    @property
    def is_trouble(self) -> bool:
        """True for a failure, acknowledged or not."""
        return self.event in (FAILED, WAITING)


class Report(NamedTuple):
    """The outcome of a run."""

    events: list[Event]
    unchanged: int
    revision: int
    notices: list[str]
    """One line for each finding in a list, each wish that gets less than it asks for because of another wish,
    and each warning about an image."""
    bad_lists: int
    """The number of lists that could not be read, wholly or in some lines. Lists whose failure the operator
    has acknowledged are not counted."""
    refused: str = ""
    """The reason why nothing was removed although images were due."""

    def count(self, *kinds: str) -> int:
        """Returns the number of events of these kinds."""
        return sum(event.event in kinds for event in self.events)

    @property
    def exit_code(self) -> int:
        """Exit code of the command. 0: no failure, or only acknowledged ones. 1: something failed. 2: nothing
        could be done."""
        unknown = sum(event.is_trouble and not event.acknowledged for event in self.events)
        bad = unknown + self.bad_lists + bool(self.refused)
        if not bad:
            return 0
        good = self.unchanged + self.count(PUBLISHED, MOVED, REMOVED)
        return 1 if good else 2


Tell = Callable[[str], None]
