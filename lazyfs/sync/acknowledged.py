"""Failures that the operator has acknowledged until a date, so that a failed run means a new failure.
Pure."""

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import NamedTuple

from lazyfs.core.wishlist.patterns import Pattern
from lazyfs.sync.state import AcknowledgedState, State


class Acknowledgement(NamedTuple):
    """One acknowledged failure."""

    shown: str
    """The subject of the failure: the place of an image, a wish, or the name of a list; `*` stands for any
    characters."""
    pattern: Pattern
    until: date
    """The last day, in UTC, on which the acknowledgement holds."""
    by: str = ""
    """The name of the person who has acknowledged the failure."""
    reason: str = ""


class Acknowledged:
    """All acknowledgements of a configuration, on one day."""

    def __init__(self, given: Iterable[Acknowledgement], today: Callable[[], date]) -> None:
        self._given = tuple(given)
        self._today = today

    def until(self, subject: str) -> str:
        """Returns the date, as YYYY-MM-DD, until which failures of a subject (an image's place, a wish or a
        list's name) are acknowledged; an empty text if they are not."""
        found = self._of(subject)
        return found.until.isoformat() if found else ""

    def note(self, state: State) -> None:
        """Marks, in the state, the failures of images and lists that are acknowledged."""
        for place, image in state.images.items():
            image.acknowledged = self._noted(place) if image.error else None
        for name, one in state.lists.items():
            one.acknowledged = self._noted(name) if one.problems else None

    def _of(self, subject: str) -> Acknowledgement | None:
        """Returns the acknowledgement of a subject that holds today; of several, the one that ends last; None
        if there is none."""
        today = self._today()
        found = [one for one in self._given if one.until >= today and one.pattern(subject)]
        return max(found, key=lambda one: one.until, default=None)

    def _noted(self, subject: str) -> AcknowledgedState | None:
        found = self._of(subject)
        return found and AcknowledgedState(found.until.isoformat(), found.by, found.reason)

    def ended(self) -> Iterator[str]:
        """Yields one line for each acknowledgement that has expired."""
        for one in self._given:
            if one.until < self._today():
                yield (
                    f"the acknowledgement of {one.shown} has ended on {one.until}: "
                    "take it out of the configuration, or give it another date"
                )


NOBODY = Acknowledged((), lambda: date.min)
