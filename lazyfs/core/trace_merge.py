"""Merges the traces of many starts of one program into one. Pure."""

from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Final, TypeVar

T = TypeVar("T", bound=Hashable)

SHARE: Final = Fraction(1, 3)
"""What fewer of the traces touch is chance: another job's input, or somebody's lie."""


def merged(traces: Iterable[Sequence[T]], share: Fraction = SHARE) -> list[T]:
    """Returns what at least `share` of the traces touch, in the order of first use: by the mean place among
    the traces that touch it. In a trace that names a thing twice the first counts."""
    places: dict[T, list[int]] = {}
    count = 0
    for count, trace in enumerate(traces, 1):  # noqa: B007 (the number of traces)
        for place, one in enumerate(dict.fromkeys(trace)):
            places.setdefault(one, []).append(place)
    kept = {one: Fraction(sum(at), len(at)) for one, at in places.items() if len(at) >= share * count}
    return sorted(kept, key=kept.__getitem__)
