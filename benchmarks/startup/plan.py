"""The starts that are made in a quick and in a full run, and their number."""

from collections.abc import Sequence
from typing import Final

import msgspec

from benchmarks.compare import BY_AGE, BY_RACE
from benchmarks.startup.recipes import RECIPES
from benchmarks.startup.services import Line

COLD: Final = "lazyfs cold"
PROFILED: Final = f"lazyfs cold, {BY_RACE}"
"""A cold start of an image whose profile was made from a start of the same program."""
WARM_PROXY: Final = f"lazyfs, {BY_AGE}"
WARM_NODE: Final = "lazyfs, warm node cache"
UNSEEN: Final = (COLD, WARM_PROXY, WARM_NODE)
LAZYFS: Final = (COLD, PROFILED, WARM_PROXY, WARM_NODE)
PODMAN: Final = "podman pull"
UNPACK: Final = "skopeo, umoci"
APPTAINER: Final = "apptainer build"
SIF: Final = "apptainer pull, SIF built before"
PULLS: Final = (PODMAN, UNPACK, APPTAINER, SIF)
CASYNC: Final = "casync mount"
LOCAL: Final = "unpacked before"
"""The program alone: everything is on the local disk, and nothing is fetched."""
REPEATS: Final = 3
"""The number of starts of an image of a recipe by each side, except pulls of a large one."""


class Case(msgspec.Struct, frozen=True):
    """One program on one line, and the sides to compare."""

    line: Line
    workload: str
    sides: tuple[str, ...]
    repeats: int


def other(side: str, revision: str) -> str:
    """Returns the name of `side` if it is run with another revision of lazyfs."""
    return f"{side}, at {revision}"


def with_revision(cases: list[Case], revision: str) -> list[Case]:
    """Returns the cases, with the same sides of lazyfs at another revision added. The warm proxy is not
    added, because only its requests would differ. Cases of the workload `read everything` with a round-trip
    time stay unchanged, since a revision without packs would wait for 32,000 requests."""
    return [
        case
        if case.workload == "read everything" and case.line.rtt_ms
        else msgspec.structs.replace(
            case,
            sides=case.sides
            + tuple(other(side, revision) for side in (COLD, PROFILED, WARM_NODE) if side in case.sides),
        )
        for case in cases
    ]


def with_sides(cases: list[Case], sides: Sequence[str]) -> list[Case]:
    """Returns the cases with no other sides than these. Cases without any of them are left out."""
    shorter = [
        msgspec.structs.replace(case, sides=tuple(side for side in case.sides if side in sides))
        for case in cases
    ]
    return [case for case in shorter if case.sides]


def quick() -> list[Case]:
    """Returns the case of the small image at 50 ms and 1000 Mbit/s."""
    return [Case(Line(50, 1000), "shell", (*LAZYFS, *PULLS, CASYNC, LOCAL), repeats=3)]


def full() -> list[Case]:
    """Returns the cases of all images. On two lines, every side is started. On the other lines, each lazyfs
    side is started once from two images; so are the pulls, on those lines on which a pull may be faster.

    casync fetches chunks of 64 KiB one after the other, so its analysis runs only on the short line.
    """
    short, long = Line(0, 1000), Line(50, 100)
    cases = [
        Case(short, "shell", (*LAZYFS, *PULLS, CASYNC, LOCAL), 5),
        Case(long, "shell", (*LAZYFS, *PULLS, CASYNC, LOCAL), 5),
        Case(short, "hello", UNSEEN, 5),  # an image has one profile, and this image's is that of the analysis
        Case(long, "hello", UNSEEN, 5),
        Case(short, "analysis", (*LAZYFS, *PULLS, CASYNC, LOCAL), 5),
        Case(long, "analysis", (*LAZYFS, *PULLS, LOCAL), 5),
        Case(short, "read everything", (COLD, WARM_NODE, PODMAN, UNPACK, SIF, LOCAL), 5),
        Case(long, "read everything", (COLD, PODMAN, SIF), 3),
        Case(short, "random files", (COLD, LOCAL), 5),
        Case(long, "random files", (COLD, LOCAL), 5),
    ]
    for recipe in RECIPES:
        for line in (short, long):
            if recipe.large:
                cases.append(Case(line, recipe.name, (*LAZYFS, LOCAL), REPEATS))
                cases.append(Case(line, recipe.name, PULLS, 1))
            else:
                cases.append(Case(line, recipe.name, (*LAZYFS, *PULLS, LOCAL), REPEATS))
    others = [Line(rtt, mbit) for rtt in (0, 10, 50, 150) for mbit in (100, 1000)]
    for line in others:
        if line not in (short, long):
            beside = (PODMAN, SIF) if line in (Line(50, 1000), Line(150, 100)) else ()
            cases.append(Case(line, "shell", LAZYFS, 1))
            cases.append(Case(line, "analysis", (*LAZYFS, *beside), 1))
    return cases
