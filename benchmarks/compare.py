"""Compares the counts of two results of one benchmark: requests, bytes fetched, upcalls, objects; never
times."""

import re
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any, Final

TOLERANCE: Final = 0.05
BY_RACE: Final = "with profile"
"""Rows with this in their name are compared by bytes only. Their number of requests varies (53 to 119 in
starts of one program): if the program reads an object before the profile's prefetch has fetched it, the read
makes a request of its own."""
BY_AGE: Final = "warm site proxy"
"""Rows with this in their name are not compared. A proxy asks again for metadata older than a minute, so the
number of requests, one to four, depends on when the start happens. `startup.bench` fails if such a start
requests more than metadata."""
_COUNT: Final = re.compile(r"(requests|upcalls|objects|bytes_from_origin|bytes_stored|bytes_fetched)$")


def counts(result: Any) -> dict[str, float]:
    """Returns path of a count in the result -> the count. The samples of one row are replaced by their
    median."""
    return dict(_walk(result, ""))


def _walk(value: Any, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, int) and not isinstance(inner, bool) and _COUNT.search(key):
                yield f"{place}/{key}", inner
            elif isinstance(inner, dict | list):
                yield from _walk(inner, f"{place}/{key}")
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if any(_label(item) for item in value):
            for item in value:
                yield from _walk(item, f"{place}[{_label(item)}]")
        else:
            names = [name for name in value[0] if all(isinstance(item.get(name), int) for item in value)]
            yield from _walk({name: int(median(item[name] for item in value)) for name in names}, place)


def _label(item: Mapping[str, Any]) -> str:
    """Returns a text that identifies a row: its strings, and the values of a nested object such as a line."""
    parts = [str(value) for value in item.values() if isinstance(value, str)]
    for value in item.values():
        if isinstance(value, dict) and all(isinstance(inner, int | float | str) for inner in value.values()):
            parts += map(str, value.values())
    return ", ".join(parts)


def worse(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Returns a line for each count that has grown by more than TOLERANCE. Ignores counts that only one of
    the results has."""
    return [
        f"{place}: {before[place]:,.0f} -> {count:,.0f} (+{count / max(before[place], 1) - 1:.1%})"
        for place, count in sorted(after.items())
        if place in before and _comparable(place) and count > before[place] * (1 + TOLERANCE) + 1
    ]


def _comparable(place: str) -> bool:
    return BY_AGE not in place and not (BY_RACE in place and place.endswith("/requests"))
