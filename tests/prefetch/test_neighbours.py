"""The choice of files that are fetched along with a missed file."""

import pytest

from lazyfs.core.digest import sha256
from lazyfs.prefetch.neighbours import BATCH_BYTES, BATCH_FILES, SMALL, Neighbours
from lazyfs.vfs.missing_objects import Need
from lazyfs.vfs.siblings import siblings
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects, Spec, image, live, number, shown


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
