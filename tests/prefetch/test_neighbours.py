"""The files that are fetched along with a missed file."""

import pytest

from lazyfs.core.digest import sha256
from lazyfs.prefetch.neighbours import BATCH_BYTES, BATCH_FILES, NEAR, PACKS, SMALL, Neighbours
from lazyfs.vfs.missing_objects import Need
from lazyfs.vfs.siblings import siblings
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects, Spec, image, live, number, packed, shown


def holding(objects: Objects, spec: Spec) -> Tree:
    return shown(objects, live(objects, {"image": image(objects, spec)}))


def read(neighbours: Neighbours, tree: Tree, path: str) -> None:
    around = siblings(tree, number(tree, path))
    if around is not None and around.entries[around.position].pack_number >= 0:
        neighbours.read(around)


def missed(neighbours: Neighbours, tree: Tree, path: str) -> set[bytes]:
    read(neighbours, tree, path)
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


def spread(objects: Objects, mark: str, count: int = 3) -> dict[str, object]:
    """Returns name -> inode of `count` files, each in a pack of its own."""
    files = [packed(objects, {f"f{at:02}": f"{mark} {at}".encode()}) for at in range(count)]
    return {name: inode for one in files for name, inode in one.items()}


def packs_of(mark: str, *numbers: int) -> set[bytes]:
    return {sha256(f"{mark} {at}".encode()) for at in numbers}


def test_a_program_on_its_way_through_a_package_gets_the_packs_of_its_directories() -> None:
    objects = Objects()
    inner = spread(objects, "inner") | {
        "below": spread(objects, "below"),
        "beside": spread(objects, "beside"),
    }
    tree = holding(objects, {"d": spread(objects, "d") | {"inner": inner}, "far": spread(objects, "far")})
    neighbours = Neighbours()
    assert missed(neighbours, tree, "image/d/f01") == set()
    assert missed(neighbours, tree, "image/far/f00") == set()
    assert missed(neighbours, tree, "image/d/inner/f01") == packs_of("inner", 2, 0)  # its parent d was read
    assert missed(neighbours, tree, "image/d/f00") == packs_of("d", 1, 2)  # d was read a second time
    assert missed(neighbours, tree, "image/d/f02") == set()  # the packs of a directory are fetched once
    assert missed(neighbours, tree, "image/d/inner/below/f02") == packs_of("below", 0, 1)


def test_what_was_read_from_the_cache_shows_the_way_too() -> None:
    objects = Objects()
    tree = holding(objects, {"d": spread(objects, "d") | {"inner": spread(objects, "inner")}})
    for path in ("image/d/f00", "image/d/inner/f00"):
        neighbours = Neighbours()
        read(neighbours, tree, path)
        read(neighbours, tree, "image/d/f01")  # a part of the file before the miss
        assert missed(neighbours, tree, "image/d/f01") == packs_of("d", 2, 0)


def test_who_reads_here_and_there_gets_what_he_asks_for() -> None:
    objects = Objects()
    names = [f"d{number}" for number in range(NEAR + 1)]
    tree = holding(objects, {name: {"sub": spread(objects, name)} for name in names})
    neighbours = Neighbours()
    for name in (*names, *names):
        assert missed(neighbours, tree, f"image/{name}/sub/f01") == set()


def test_a_directory_of_many_packs_brings_none() -> None:
    objects = Objects()
    for count, brought in ((PACKS, PACKS - 1), (PACKS + 1, 0)):
        tree, neighbours = holding(objects, spread(objects, f"{count}", count)), Neighbours()
        assert missed(neighbours, tree, "image/f00") == set()
        assert len(missed(neighbours, tree, "image/f01")) == brought


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
