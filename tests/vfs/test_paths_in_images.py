"""Files of an image found by their paths, in the way a program inside the image finds them."""

import pytest

from lazyfs.core.digest import sha256
from lazyfs.vfs.missing_objects import Need
from lazyfs.vfs.paths_in_images import find_file, list_directory, place_of, siblings_at
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects, image, live, number, packed, shown

LARGE = bytes(range(256)) * 300


def example(objects: Objects) -> Tree:
    spec = {
        "usr": {"lib": {"a": b"a", "to_b": "../../opt/b", "up": "../../../../../opt/b", "large": LARGE}},
        "lib": "usr/lib",
        "opt": {"b": b"b", "absolute": "/usr/lib/a", "loop": "loop", "packed": packed(objects, {"p": b"p"})},
        "etc": {},
    }
    return shown(objects, live(objects, {"image": image(objects, spec, split=2)}))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (b"usr/lib/a", b"a"),
        (b"lib/a", b"a"),
        (b"lib/to_b", b"b"),
        (b"lib/up", b"b"),
        (b"opt/absolute", b"a"),
        (b"opt/../usr//lib/./a", b"a"),
        (b"../../opt/b", b"b"),
        (b"lib/../../opt/b", b"b"),
        (b"opt/packed/p", b"p"),
        (b"usr/lib", None),
        (b"opt/loop", None),
        (b"opt/b/", None),
        (b"opt/b/x", None),
        (b"missing", None),
        (b"", None),
        (b"usr/" * 300 + b"lib/a", None),
    ],
)
def test_a_path_leads_to_what_a_program_would_open(path: bytes, content: bytes | None) -> None:
    tree = example(Objects())
    top = tree.slot(number(tree, "image/usr"))[0].top
    found = find_file(tree, top, path)
    assert (found and found.entry.content) == (sha256(content) if content else None)
    if found is not None:
        assert found.entry.place(found.packs) is not None


def test_a_catalog_that_is_not_at_hand_is_asked_for() -> None:
    objects = Objects()
    tree = example(objects)
    top = tree.slot(number(tree, "image/usr"))[0].top
    tree.parsed.clear()
    objects.here = {top.ref.digest}
    with pytest.raises(Need):
        find_file(tree, top, b"opt/packed/p")


@pytest.mark.parametrize("name", ["a", "large"])
def test_the_place_of_a_file_also_of_one_that_images_share(name: str) -> None:
    tree = example(Objects())
    place = place_of(tree, number(tree, f"image/usr/lib/{name}"))
    assert place is not None
    assert place.directory == b"usr/lib"
    around = siblings_at(tree, place, name.encode())
    assert around is not None
    assert around.entries[around.position].name == name.encode()
    assert [entry.name for entry in around.entries] == [b"a", b"large", b"to_b", b"up"]
    assert list_directory(tree, place.top, b"usr/lib") == [b"a", b"large", b"to_b", b"up"]
    assert list_directory(tree, place.top, b"usr/none") == []
    assert place_of(tree, 99 << 32) is None
