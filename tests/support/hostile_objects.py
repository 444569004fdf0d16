"""Properly signed nonsense, drawn by Hypothesis: chunk lists, profiles and hot packs.

Each field is drawn from its extremes, but often enough has its right value, so that readers get to the other
fields. `published` makes a revision of a drawn set of objects.
"""

import struct
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from lazyfs.core import codec, profile
from lazyfs.core.catalog.inode import Nested
from lazyfs.core.catalog.layout import Totals
from lazyfs.core.digest import Digest, ObjectRef, object_path, sha256
from tests.support import hostile_catalogs as hostile
from tests.support.hostile_site import put
from tests.support.repository import Published

NUMBERS = st.sampled_from([number for number in hostile.NUMBERS if number < 1 << 63])
SMALL = b"small"


class HostileFile(NamedTuple):
    """A file's chunk list, and the size and shift that the catalog states for the file."""

    listed: bytes
    size: int
    shift: int


class HostileProfile(NamedTuple):
    """A profile, and the stored files under the names of its hot packs."""

    plain: bytes
    stored: dict[bytes, bytes]


def right_or(right: Any, wrong: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Returns a strategy that draws `right` three times out of four, and otherwise from `wrong`."""
    return st.one_of(st.just(right), st.just(right), st.just(right), wrong)


@st.composite
def files(draw: st.DrawFn) -> HostileFile:
    """Draws a file of up to 300 chunks, some of which exist."""
    shift = draw(right_or(12, st.sampled_from([0, 1, 11, 13, 16, 24, 25, 63, 64, 255])))
    size = draw(right_or(10_000, NUMBERS))
    chunks = draw(
        st.lists(st.sampled_from([bytes(32), sha256(SMALL), sha256(bytes(4096)), b"\xff" * 32]), max_size=6)
    ) * draw(st.sampled_from([1, 1, 50]))
    listed = struct.pack(
        "<4sB3sQ",
        draw(right_or(b"LZFC", st.sampled_from([b"LZFB", bytes(4)]))),
        draw(right_or(shift & 0xFF, st.integers(0, 255))),
        draw(right_or(bytes(3), st.just(b"\1\2\3"))),
        draw(right_or(size, NUMBERS)),
    ) + b"".join(chunks)
    cut = draw(right_or(0, st.sampled_from([1, 31, 32, len(listed)])))
    return HostileFile(listed[: len(listed) - cut], size, shift)


@st.composite
def profiles(draw: st.DrawFn) -> HostileProfile:
    """Draws a profile of up to three hot packs and two programs, with the files that are served for the
    packs. The images have files of the contents SMALL and 4,096 zeros."""
    stored: dict[bytes, bytes] = {}
    packs = []
    small = NUMBERS.filter(lambda number: number < 1 << 32)
    for _ in range(draw(st.integers(0, 3))):
        plains = draw(st.lists(st.sampled_from([SMALL, bytes(4096), b"other"]), min_size=1, max_size=3))
        files = [
            (draw(right_or(sha256(plain), st.just(sha256(SMALL)))), draw(right_or(len(plain), small)))
            for plain in plains
        ]
        name = sha256(b"".join(plains))
        packed = b"".join(struct.pack("<32sI", digest, size) for digest, size in files)
        packs.append([name, draw(right_or(packed, st.sampled_from([*hostile.TEXTS, *hostile.OTHER])))])
        frame = st.sampled_from([b"", b"not zstd", codec.encode(bytes(1 << 22))])
        stored[name] = draw(right_or(codec.encode(b"".join(plains)), frame))
    objects = b"".join(
        struct.pack("<32sQ", sha256(SMALL), draw(right_or(len(SMALL), NUMBERS)))
        for _ in range(draw(st.integers(0, 2)))
    )
    count = len(packs) + len(objects) // 40
    programs = [
        [path, b"".join(struct.pack("<I", draw(right_or(number, small))) for number in range(count))]
        for path in draw(st.lists(st.sampled_from(["", "/bin/sh", "p" * 5000, b"bytes", None]), max_size=2))
    ]
    version = draw(right_or(profile.VERSION, st.sampled_from([0, 1, 2, None, -1])))
    origin = draw(right_or("recorded", st.sampled_from(["", "guessed", None])))
    plain = msgspec.msgpack.encode([version, origin, packs, objects, programs])
    return HostileProfile(draw(right_or(plain, st.sampled_from(hostile.TEXTS))), stored)


def published(made: Published, some: list[HostileFile], lists: list[HostileProfile]) -> None:
    """Publishes a revision with one image for each file and each profile. Writes the files of the hot
    packs exactly as drawn."""
    objects = made.objects
    for plain in (SMALL, bytes(4096)):
        objects.put(plain)
    images: dict[bytes, ObjectRef] = {}
    for number, (listed, size, shift) in enumerate(some):
        one = hostile.draft(objects)
        one.directories[0][0][5:8] = [size, objects.put(listed), shift]
        images[b"file%d" % number] = put(objects, one.encode())
    tree = put(objects, hostile.draft(objects).encode())
    folder = hostile.live_draft(images)
    for plain in (one.plain for one in lists if one.plain):
        folder.directories[0].append(hostile.hinting(tree, put(objects, plain)))
    unique = {entry[0]: entry for entry in folder.directories[0]}
    folder.directories[0] = [unique[name] for name in sorted(unique)]
    folder.header[3] = [[number, [1, 1, 1]] for number in range(1, len(unique) + 1)]
    folder.header[0][8] = 2 + len(unique)
    made.commit(Nested(put(objects, folder.encode()), live=True, nlink=2, totals=Totals()))
    for drawn in lists:
        for name, body in drawn.stored.items():
            path = made.store / object_path(Digest(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
