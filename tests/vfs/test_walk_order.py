"""The objects that a walk through an image's tree comes to after a file: those of all files that come later
by name, across catalogs, each once."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.pack import PackTable
from lazyfs.vfs import walk_order
from lazyfs.vfs.catalogs import ENTRIES_AT_ONCE
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.missing_objects import NeedDecoding
from lazyfs.vfs.shared_files import MIN_SIZE
from lazyfs.vfs.tree import Tree
from lazyfs.vfs.walk_order import BATCH, LOOK, PAUSE, Step, objects_after
from tests.support.images import Objects, Spec, file, image, live, number, packed, shown

names = st.text("abcdefgh.-", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
trees = st.recursive(
    st.one_of(st.binary(max_size=2), st.just("link")),
    lambda inner: st.dictionaries(names, inner, max_size=5),
    max_leaves=40,
)


def holding(objects: Objects, spec: Spec, split: int = 1 << 30) -> Tree:
    return shown(objects, live(objects, {"image": image(objects, spec, split=split)}))


def nowhere(_: ObjectRef) -> bool:
    return False


def decoded(need: NeedDecoding) -> None:
    need.decode()()


def after(tree: Tree, path: str) -> Iterator[Step | None]:
    return objects_after(tree, number(tree, f"image/{path}"), nowhere, decoded)


def files(spec: Any, path: str = "") -> Iterator[tuple[str, bytes]]:
    for name in sorted(spec):
        if isinstance(spec[name], dict):
            yield from files(spec[name], f"{path}{name}/")
        elif isinstance(spec[name], bytes):
            yield f"{path}{name}", spec[name]


@settings(max_examples=200)
@given(st.dictionaries(names, trees, min_size=1, max_size=6), st.integers(2, 12), st.data())
def test_all_later_files_come_in_the_order_of_the_tree(spec: Spec, split: int, data: st.DataObject) -> None:
    inside = list(files(spec))
    if not inside:
        return
    at = data.draw(st.integers(0, len(inside) - 1))
    tree = holding(Objects(), spec, split)
    later = dict.fromkeys(sha256(content) for _, content in inside[at + 1 :] if content)
    found = [step for step in after(tree, inside[at][0]) if step is not None]
    assert [step.ref.digest for step in found] == list(later)
    assert all(step.first for step in found)


def test_packs_and_the_chunks_of_large_files_take_turns() -> None:
    objects = Objects()
    small = packed(objects, {"b": b"one", "d": b"two"})
    large = {
        "a": b"read",
        "c": file(objects, bytes(range(10)) * 1000, shift=12),
        "e": file(objects, bytes(range(20)) * 500, shift=12, listed=False),
    }
    tree = holding(objects, {**large, **small})
    steps = [step for step in after(tree, "a") if step is not None]
    assert [step.first for step in steps] == [True, True, False, False, True, False, False]
    assert [step.ref.digest for step in steps] == [
        sha256(b"onetwo"),
        *map(sha256, parts(bytes(range(10)) * 1000)),
        *map(sha256, parts(bytes(range(20)) * 500)),
    ]


def parts(plain: bytes) -> list[bytes]:
    return [plain[at : at + 4096] for at in range(0, len(plain), 4096)]


def test_what_is_missing_is_on_the_way_and_the_walk_goes_on_when_it_has_come() -> None:
    objects = Objects()
    inner = image(objects, {"in": b"inner"})
    chunked = file(objects, bytes(8192), shift=12)
    tree = holding(objects, {"a": b"read", "b": inner, "c": chunked, "d": b"last"})
    walk = after(tree, "a")
    objects.here = set()
    assert next(walk) == Step(inner.ref, first=True)
    assert next(walk) is None
    objects.here = {inner.ref.digest}
    assert ref(next(walk)) == sha256(b"inner")
    assert ref(next(walk)) == chunked.content
    assert next(walk) is None
    objects.here.add(Digest(chunked.content))
    assert [ref(step) for step in walk] == [sha256(bytes(4096)), sha256(b"last")]


def ref(step: Step | None) -> Digest:
    assert step is not None
    return step.ref.digest


def test_a_large_directory_is_decoded_without_the_lock() -> None:
    wanted: list[NeedDecoding] = []
    large = {f"{at:05}": b"%d" % at for at in range(ENTRIES_AT_ONCE + 1)}
    tree = holding(Objects(), {"a": b"read", "b": large, "c": b"last"})
    walk = objects_after(tree, number(tree, "image/a"), nowhere, wanted.append)
    assert [next(walk), next(walk)] == [None, None]
    assert len(wanted) == 2
    wanted[0].decode()()
    found = [step for step in walk if step is not None]
    assert [step.ref.digest for step in found] == [sha256(one) for one in (*large.values(), b"last")]


def test_what_is_here_is_left_out_and_only_so_much_is_looked_at_in_one_go() -> None:
    spec = {f"{at:04}": b"%d" % at for at in range(100)}
    tree, looked = holding(Objects(), spec), list[ObjectRef]()

    def here(one: ObjectRef) -> bool:
        looked.append(one)
        return one.digest != sha256(b"99")

    walk = objects_after(tree, number(tree, "image/0000"), here, decoded)
    assert next(walk) is None
    assert PAUSE // LOOK - 1 <= len(looked) <= PAUSE // LOOK + 1
    assert [step.ref.digest for step in walk if step is not None] == [sha256(b"99")]
    assert len(looked) == 99


def test_only_so_many_files_without_an_object_are_passed_in_one_go() -> None:
    empty: Spec = {f"{at:04}": b"" for at in range(PAUSE // 3)}
    tree = holding(Objects(), {"a": b"read", **{f"b{at}": empty for at in range(5)}, "c": b"last"})
    steps = list(after(tree, "a"))
    assert [step is None for step in steps] == [True, False]
    assert ref(steps[1]) == sha256(b"last")


@pytest.mark.parametrize(("directories", "files"), [(100, BATCH - 1), (900, 1)])
def test_of_many_directories_too_only_so_many_entries_are_looked_at_in_one_go(
    monkeypatch: pytest.MonkeyPatch, directories: int, files: int
) -> None:
    """Regression: the entries of directories of less than a batch were not counted, and those before a
    directory were passed again for each directory. The filesystem's lock was held for up to 0.7 s."""
    looked = 0

    class Counted(list[Entry]):
        def __iter__(self) -> Iterator[Entry]:
            for place in range(len(self)):
                yield self[place]

        def __getitem__(self, place: Any) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(place)

    def listed(entries: Entries, repository: str, place: Any) -> tuple[PackTable, list[Entry]]:
        packs, found = _listed(entries, repository, place)
        return packs, Counted(found)

    _listed = walk_order._listed
    monkeypatch.setattr(walk_order, "_listed", listed)
    full = {f"{number:03}": b"" for number in range(files)}
    tree = holding(Objects(), {"a": b"read"} | {f"b{number:03}": full for number in range(directories)})
    most = 0
    for step in after(tree, "a"):
        assert step is None
        most, looked = max(most, looked), 0
    assert 0 < most <= PAUSE + BATCH


def test_a_file_that_images_share_leads_on_in_the_image_that_was_entered_last() -> None:
    objects, shared = Objects(), bytes(MIN_SIZE)
    one, two = (image(objects, {"a": {"b": shared}, "c": name}) for name in (b"one", b"two"))
    tree = shown(objects, live(objects, {"one": one, "two": two, "file": b"between the images"}))
    numbers = [number(tree, f"{name}/a/b") for name in ("one", "two")]
    assert numbers[0] == numbers[1]
    walk = objects_after(tree, numbers[0], nowhere, decoded)
    assert [ref(step) for step in walk] == [sha256(b"two")]
    assert list(objects_after(tree, number(tree, "file"), nowhere, decoded)) == []
