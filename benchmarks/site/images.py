"""Fifty images of a site, derived from three measured starts by scaling.

Each image has the start of one of the three programs; the number of its objects is scaled by a factor between
a half and two, with repetition or omission of measured objects, whose sizes and waits it keeps. There are
FAMILY families, each of images of one program, that share their first SHARED of the objects, as images on one
base do. A new tag has NEW of all its objects new, none of them among the shared ones. The units are what the
same images read one after the other: they come and go together, which the caches at a site would do too.
"""

import hashlib
import itertools
import random
from typing import Final, NamedTuple

from benchmarks.site.node_cache import charge_of
from benchmarks.site.starts import Fetch, Recorded

UNIT: Final = 64
"""The largest number of objects in a unit."""
IMAGES: Final = 50
FAMILY: Final = 5
SHARED: Final = 0.3
NEW: Final = 0.2
PROGRAMS: Final = ("analysis", "hello", "analysis", "hello", "shell")
"""The programs of the images in turns: a fifth of the images is small."""


class Object(NamedTuple):
    """One file of the store, or a blob."""

    path: str
    stored: int
    wave: int


class Unit(NamedTuple):
    """Objects that are fetched together."""

    number: int
    objects: tuple[Object, ...]
    plain: int
    """Bytes in the node's cache."""
    charge: int
    """Bytes of the node's disk."""
    stored: int
    waves: int
    """Waits that begin in this unit."""


class Program(NamedTuple):
    """One tag of an image: what its start fetches, and the processor time of it."""

    units: tuple[Unit, ...]
    objects: int
    cpu_cold: float
    cpu_warm: float


class Units:
    """All units of a site. Equal objects make the same unit, so images share them."""

    def __init__(self, most: int = UNIT) -> None:
        """`most`: the largest number of objects in a unit."""
        self._most = most
        self._known: dict[tuple[str, ...], Unit] = {}

    def of(self, fetched: list[tuple[str, Fetch]]) -> tuple[Unit, ...]:
        """Cuts the objects of a start, (owner, fetch) each, into units of one owner. An owner stands for the
        images or tags that read an object."""
        units: list[Unit] = []
        last_wave = -1
        for owner, group in itertools.groupby(fetched, lambda one: one[0]):
            found = [one for _, one in group]
            for start in range(0, len(found), self._most):
                part = found[start : start + self._most]
                units.append(self._unit(owner, part, last_wave))
                last_wave = part[-1].wave
        return tuple(units)

    def _unit(self, owner: str, part: list[Fetch], last_wave: int) -> Unit:
        objects = tuple(Object(path_of(owner, one.name), one.stored, one.wave) for one in part)
        key = tuple(one.path for one in objects)
        if key not in self._known:
            self._known[key] = Unit(
                len(self._known),
                objects,
                sum(one.plain for one in part),
                sum(charge_of(one.plain) for one in part),
                sum(one.stored for one in part),
                len({one.wave for one in objects} - {last_wave}),
            )
        return self._known[key]


def path_of(owner: str, name: str) -> str:
    """Returns the path of an object in the store. Without an owner, `name` is the digest of a real one."""
    digest = hashlib.sha256(f"{owner}/{name}".encode()).hexdigest() if owner else name
    return f"data/{digest[:2]}/{digest[2:]}"


def scaled(start: Recorded, factor: float) -> list[Fetch]:
    """Returns the objects of a start with `factor` times as many objects, evenly left out or repeated."""
    found = []
    due = 0.0
    for one in start.fetches:
        due += factor
        found += [Fetch(f"{one.name}.{copy}", one.stored, one.plain, one.wave) for copy in range(int(due))]
        due -= int(due)
    return found


def factor_of(image: int) -> float:
    """Returns the factor by which an image is larger than the measured one."""
    return float(2 ** random.Random(image).uniform(-1, 1))


def tags(start: Recorded, image: int, units: Units) -> tuple[Program, Program]:
    """Returns an image before and after a night. A new tag changes runs of objects (a layer's packs, a
    package's files), not single ones."""
    factor, draw = factor_of(image), random.Random(f"tag {image}")
    fetched = scaled(start, factor)
    shared = int(len(fetched) * SHARED)
    run = max(len(fetched) // 20, 1)
    old: list[tuple[str, Fetch]] = []
    new: list[tuple[str, Fetch]] = []
    changed = False
    for index, one in enumerate(fetched):
        if index >= shared and (index - shared) % run == 0:
            changed = draw.random() < NEW / (1 - SHARED)
        owner = f"{start.program}-{image % FAMILY}" if index < shared else f"image-{image}"
        old.append((owner, one))
        new.append((f"{owner}-new" if changed else owner, one))
    return program_of(units.of(old), start, factor), program_of(units.of(new), start, factor)


def pulled(
    start: Recorded, image: int, sizes: tuple[int, int], blobs: int, units: Units
) -> tuple[Program, Program]:
    """Returns an image that is fetched whole, before and after a night. `sizes`: the bytes of the measured
    image on the line, and on the node's disk. Of `blobs` equal blobs the last one is new; nothing is
    shared."""
    factor = factor_of(image)
    stored, plain = (int(size * factor / blobs) for size in sizes)
    each = [(f"image-{image}", Fetch(str(number), stored, plain, 0)) for number in range(blobs)]
    new = [*each[:-1], (f"image-{image}-new", each[-1][1])]
    return program_of(units.of(each), start, factor), program_of(units.of(new), start, factor)


def program_of(units: tuple[Unit, ...], start: Recorded, factor: float) -> Program:
    """Returns a program. `factor` scales what a cold start costs beyond a warm one."""
    objects = sum(len(unit.objects) for unit in units)
    more = max(start.cpu_cold - start.cpu_warm, 0.0) * factor
    return Program(units, objects, start.cpu_warm + more, start.cpu_warm)


def popularity(count: int) -> list[float]:
    """Returns the cumulative weights of `count` images by Zipf's law with exponent 1."""
    total, found = 0.0, []
    for rank in range(1, count + 1):
        total += 1 / rank
        found.append(total)
    return found
