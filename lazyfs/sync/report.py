"""The events of a run, image by image: for the command line, the status site and the event file."""

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
    """Its place, or the wish or list that failed."""
    digest: str = ""
    before: str = ""
    """The digest that it had."""
    revision: int = 0
    reason: str = ""
    new: bool = True
    """False for a failure that the last run had too."""
    owners: tuple[str, ...] = ()


class Report(NamedTuple):
    """The outcome of a run."""

    events: list[Event]
    unchanged: int
    revision: int
    notices: list[str]
    """Findings of the lists, collisions, warnings of images; one line each."""
    bad_lists: int
    """Lists that could not be read, or have lines that could not."""
    refused: str = ""
    """The reason why nothing was removed though something was due."""

    def count(self, *kinds: str) -> int:
        """Returns the number of events of these kinds."""
        return sum(event.event in kinds for event in self.events)

    @property
    def exit_code(self) -> int:
        """0: all is as wished. 1: some of it failed. 2: nothing could be done."""
        bad = self.count(FAILED, WAITING) + self.bad_lists + bool(self.refused)
        if not bad:
            return 0
        good = self.unchanged + self.count(PUBLISHED, MOVED, REMOVED)
        return 1 if good else 2


Tell = Callable[[str], None]
