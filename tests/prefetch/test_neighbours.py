"""The choice of files that are fetched along with a missed file."""

import pytest

from lazyfs.core.digest import sha256
from lazyfs.prefetch.neighbours import BATCH_BYTES, BATCH_FILES, PACKS, SMALL, Neighbours
from lazyfs.vfs.missing_objects import Need
from lazyfs.vfs.siblings import siblings
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects, Spec, image, live, number, packed, shown


def holding(objects: Objects, spec: Spec) -> Tree:
    return shown(objects, live(objects, {"image": image(objects, spec)}))


def missed(neighbours: Neighbours, tree: Tree, path: str) -> set[bytes]:
    around = siblings(tree, number(tree, path))
    return set() if around is None else {ref.digest for ref in neighbours.missed(around)}


def test_the_small_files_of_the_directory_come_along_once() -> None:
    objects = Objects()
    tree = holding(
        objects, {"d": {"a": b"a", "b": b"b", "c": b"c", "sub": {"x": b"x"}, "link": "a"}, "e": b"e"}
    )
    neighbours = Neighbours()
    assert missed(neighbours, tree, "image/d/b") == {sha256(b"a"), sha256(b"c")}
    assert missed(neighbours, tree, "image/d/a") == set()
    assert missed(neighbours, tree, "image/d/b") == set()
    assert missed(neighbours, tree, "image/d/sub/x") == set()
    assert missed(neighbours, tree, "image/e") == set()


def test_a_miss_in_a_pack_brings_the_other_packs_of_the_directory_once() -> None:
    objects = Objects()
    packs = [packed(objects, {f"{name}{at}": name.encode() * 9 for at in range(3)}) for name in "abc"]
    inner = packed(objects, {"inner": b"inner"})
    spec = {"d": {**packs[0], **packs[1], **packs[2], "own": b"own", "sub": inner}}
    tree = holding(objects, spec)
    neighbours = Neighbours()
    plains = {name: sha256(name.encode() * 27) for name in "abc"}
    assert missed(neighbours, tree, "image/d/b1") == {plains["c"], plains["a"]}
    assert missed(neighbours, tree, "image/d/a0") == set()
    assert missed(neighbours, tree, "image/d/sub/inner") == set()


def test_a_miss_in_a_directory_of_many_packs_brings_none() -> None:
    objects = Objects()
    for count, brought in ((PACKS, PACKS - 1), (PACKS + 1, 0)):
        files = [packed(objects, {f"f{at:02}": b"%d,%d" % (count, at)}) for at in range(count)]
        tree = holding(objects, {name: inode for one in files for name, inode in one.items()})
        assert len(missed(Neighbours(), tree, "image/f00")) == brought


def test_large_and_empty_files_do_not() -> None:
    objects = Objects()
    tree = holding(objects, {"a": b"a", "empty": b"", "large": bytes(SMALL + 1), "edge": bytes(SMALL)})
    assert missed(Neighbours(), tree, "image/a") == {sha256(bytes(SMALL))}


def test_a_file_that_images_share_brings_nothing() -> None:
    tree = holding(Objects(), {"a": b"a", "large": bytes(SMALL + 1)})
    assert missed(Neighbours(), tree, "image/large") == set()


def test_one_miss_brings_one_batch_and_the_next_miss_goes_on_from_there() -> None:
    count = 3 * BATCH_FILES
    tree = holding(Objects(), {f"{i:04}": b"%d" % i for i in range(count)})
    neighbours = Neighbours()
    first = missed(neighbours, tree, "image/0000")
    assert first == {sha256(b"%d" % i) for i in range(1, BATCH_FILES + 1)}
    assert missed(neighbours, tree, "image/0005") == set()
    second = missed(neighbours, tree, f"image/{count - 1:04}")
    assert second == {sha256(b"%d" % i) for i in range(BATCH_FILES + 1, 2 * BATCH_FILES + 1)}


def test_a_batch_is_bounded_in_bytes() -> None:
    spec = {f"{i:04}": bytes([i]) * SMALL for i in range(1, 40)} | {"0000": b"0"}
    assert len(missed(Neighbours(), holding(Objects(), spec), "image/0000")) == BATCH_BYTES // SMALL


def test_a_catalog_that_is_not_at_hand_is_asked_for() -> None:
    objects = Objects()
    tree = holding(objects, {"a": b"a"})
    at = number(tree, "image/a")
    tree.parsed.clear()
    objects.here = set()
    with pytest.raises(Need):
        siblings(tree, at)
