"""Prefetching for a program that reads files of the same name in one directory after another."""

from lazyfs.core.digest import sha256
from lazyfs.prefetch.same_names import PACKS, PROOF, SameNames
from lazyfs.vfs.siblings import later_namesakes, siblings
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects, image, live, number, packed, shown

NAME = "entry_points.txt"


def installed(objects: Objects, count: int) -> dict[str, object]:
    """Returns `count` directories, each with its own pack and the same three file names."""
    return {
        f"d{at:03}": packed(objects, {NAME: b"points %d" % at, "METADATA": b"%d" % at, "RECORD": b"r%d" % at})
        for at in range(count)
    }


def pack_of(at: int) -> bytes:
    return sha256(b"points %d%dr%d" % (at, at, at))


def holding(count: int) -> Tree:
    objects = Objects()
    spec = {"lib": installed(objects, count) | {"file": b"1", "zz": {"other": b"2"}}, "top": b"t"}
    return shown(objects, live(objects, {"image": image(objects, spec)}))


def read(rule: SameNames, tree: Tree, path: str) -> list[bytes]:
    around = siblings(tree, number(tree, f"image/lib/{path}"))
    assert around is not None
    return [ref.digest for ref in rule.read(around)]


def test_a_name_read_in_one_directory_after_the_other_brings_the_later_ones_once() -> None:
    tree, rule = holding(8), SameNames()
    for at in range(PROOF):
        assert read(rule, tree, f"d00{at}/{NAME}") == []
        assert read(rule, tree, f"d00{at}/{NAME}") == []  # the second part of a file
    assert read(rule, tree, f"d00{PROOF}/{NAME}") == [pack_of(at) for at in range(PROOF + 1, 8)]
    assert read(rule, tree, f"d00{PROOF + 1}/{NAME}") == []


def test_other_files_between_break_the_chain() -> None:
    tree, rule = holding(8), SameNames()
    for at in range(8):
        assert read(rule, tree, f"d00{at}/{NAME if at % 2 else 'RECORD'}") == []
    rule = SameNames()
    for at in range(8):
        assert read(rule, tree, f"d00{at}/{NAME}") == []
        assert read(rule, tree, f"d00{at}/RECORD") == []


def test_so_many_packs_come_along_at_most() -> None:
    count = 2 * PACKS
    tree, rule = holding(count), SameNames()
    found = [read(rule, tree, f"d{at:03}/{NAME}") for at in range(PROOF + 1)][-1]
    assert found == [pack_of(at) for at in range(PROOF + 1, PROOF + 1 + PACKS)]


def test_the_last_directory_and_a_catalogs_top_have_no_later_namesakes() -> None:
    tree = holding(3)
    last = siblings(tree, number(tree, f"image/lib/d002/{NAME}"))
    top = siblings(tree, number(tree, "image/top"))
    assert last is not None
    assert top is not None
    assert later_namesakes(last, 100, PACKS) == later_namesakes(top, 100, PACKS) == []
