"""The chunks of a library or an executable that are fetched along with a missed chunk."""

from typing import Any

import pytest

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import sha256
from lazyfs.prefetch.heads import head_of
from lazyfs.prefetch.programs import MAGIC, MOST, Programs
from lazyfs.vfs import content
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import NOTHING, Need
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects, file, image, live

SHIFT = 16
CHUNK = 1 << SHIFT


class Shown:
    """One chunked file in an image; its chunks are all different."""

    def __init__(self, name: str, chunks: int, head: bytes = b"", shift: int = SHIFT, **fields: Any) -> None:
        self.objects = Objects()
        size = 1 << shift
        parts = [index.to_bytes(4, "little") * (size // 4) for index in range(1, chunks + 1)]
        parts[0] = head + parts[0][len(head) :]
        self.digests = [sha256(part) for part in parts]
        made = file(self.objects, b"".join(parts), shift=shift, **fields)
        self.tree = Tree(SlotTable())
        root = live(self.objects, {"image": image(self.objects, {name: made})})
        self.tree.show_repository(Repository("test", self.objects, root.ref, 1))
        number = ROOT
        for step in (b"image", name.encode()):
            child = self.tree.lookup(number, step)
            assert child is not None
            number = child.number
        self.number = number
        self.entry: Entry = self.tree.entry(number)

    def touched(self, programs: Programs, offset: int, fetched: Any = NOTHING) -> list[int]:
        read = content.plan_read(self.tree, self.number, offset, 1, fetched)
        assert read.chunks is not None
        head = head_of(read, self.objects, fetched)
        found = programs.touched(read.entry, read.chunks, read.offset, head)
        return [self.digests.index(ref.digest) for ref in found]


def test_a_miss_in_a_library_brings_its_other_chunks_from_there_on_and_once() -> None:
    shown, programs = Shown("libm.so.6", 5), Programs()
    assert shown.touched(programs, 3 * CHUNK + 17) == [4, 0, 1, 2]
    assert shown.touched(programs, 3 * CHUNK) == []
    assert shown.touched(programs, 0) == []


@pytest.mark.parametrize(
    "name", ["x.so", "_multiarray.cpython-311-x86_64-linux-gnu.so", "libc.so.6", "libopenblas-r0.3.so.0.1.2"]
)
def test_names_of_libraries(name: str) -> None:
    assert Shown(name, 2).touched(Programs(), 0) == [1]


@pytest.mark.parametrize("name", ["data.root", "so", "x.sound", "notes.so.txt", "table.sqlite"])
@pytest.mark.parametrize("head", [b"", MAGIC])
def test_data_brings_nothing(name: str, head: bytes) -> None:
    assert Shown(name, 2, head).touched(Programs(), 0) == []


def test_an_executable_is_known_by_its_magic_once_that_is_here() -> None:
    shown, programs = Shown("python3", 3, MAGIC, mode=0o755), Programs()
    first = shown.digests[0]
    shown.objects.here = {shown.entry.content}  # type: ignore[arg-type]
    assert shown.touched(programs, 0) == []
    assert shown.touched(programs, 0, {first: shown.objects[first]}) == [1, 2]
    assert shown.touched(programs, 2 * CHUNK) == []


def test_executable_data_brings_nothing() -> None:
    assert Shown("run.root", 3, b"root", mode=0o755).touched(Programs(), CHUNK) == []


def test_a_large_library_is_asked_for_a_window_at_a_time() -> None:
    shift = 22
    window = MOST >> shift
    shown, programs = Shown("big.so", 2 * window + 2, shift=shift), Programs()
    assert shown.touched(programs, 1 << shift) == list(range(2, window + 1))
    assert shown.touched(programs, window << shift) == []
    assert shown.touched(programs, (window + 1) << shift) == list(range(window + 2, 2 * window + 1))


def test_a_chunk_list_that_is_not_at_hand_is_asked_for() -> None:
    shown = Shown("x.so", 2)
    shown.objects.here = set()
    with pytest.raises(Need):
        shown.touched(Programs(), 0)
