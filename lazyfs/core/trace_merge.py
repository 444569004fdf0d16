"""Merges the traces of many starts of one program into one. Pure."""

from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Final, TypeVar

T = TypeVar("T", bound=Hashable)

SHARE: Final = Fraction(1, 3)
"""An item is kept if at least this share of the traces touch it. Items that fewer traces touch come from
chance (another job's input) or from a false report."""


def merged(traces: Iterable[Sequence[T]], share: Fraction = SHARE) -> list[T]:
    """Returns the items that at least `share` of the traces touch, ordered by the mean of their positions
    in these traces. If a trace names an item twice, its first position counts."""
    places: dict[T, list[int]] = {}
    count = 0
    for count, trace in enumerate(traces, 1):  # noqa: B007 (the number of traces)
        for place, one in enumerate(dict.fromkeys(trace)):
            places.setdefault(one, []).append(place)
    kept = {one: Fraction(sum(at), len(at)) for one, at in places.items() if len(at) >= share * count}
    return sorted(kept, key=kept.__getitem__)
