"""A new revision on a live mount: folders show it, snapshots stay, and only changed entries are
invalidated."""

import pytest

from lazyfs.core import profile
from lazyfs.core.catalog.inode import Nested
from lazyfs.core.digest import Digest, ref_of
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import Need
from lazyfs.vfs.revision_switch import Invalidation, switch
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.content import read_content
from tests.support.images import Objects, folder_of, image, live


class Site:
    """A repository with two registries. `look` looks up a path as the kernel does, and so holds the inode
    number of each part."""

    def __init__(self) -> None:
        self.objects = Objects()
        self.a, self.b, self.c = (
            image(self.objects, {"f": name, "d": {"g": b"g"}}) for name in (b"a", b"b", b"c")
        )
        self.tree = Tree(SlotTable())
        self.first = live(
            self.objects, {"one": {"a:1": self.a, "b:1": self.b, "latest": "a:1"}, "two": {"c:1": self.c}}
        )
        self.tree.show_repository(Repository("test", self.objects, self.first.ref, 1))

    def way(self, path: str) -> list[int]:
        numbers = [ROOT]
        for name in path.split("/"):
            child = self.tree.lookup(numbers[-1], name.encode())
            assert child is not None, path
            self.tree.hold(child.number)
            numbers.append(child.number)
        return numbers[1:]

    def look(self, path: str) -> int:
        return self.way(path)[-1]

    def switch(self, root: Nested, revision: int = 2) -> list[Invalidation]:
        return switch(self.tree, "test", root.ref, revision)

    def read(self, number: int) -> bytes:
        return read_content(self.tree, number)

    def names(self, number: int) -> list[bytes]:
        return [child.name for child in self.tree.listing(number)]


def test_a_new_tag_touches_its_folders_only() -> None:
    site = Site()
    numbers = {path: site.look(path) for path in ("one", "one/a:1", "one/a:1/f", "two", "two/c:1/f")}
    one = {"a:1": site.a, "b:1": site.b, "b:2": site.c, "latest": "b:2"}
    invalidations = site.switch(live(site.objects, {"one": one, "two": {"c:1": site.c}}))
    folder = numbers["one"]
    assert set(invalidations) == {
        Invalidation(ROOT, None),
        Invalidation(folder, None),
        Invalidation(folder, b"b:2"),
        Invalidation(folder, b"latest"),
    }
    assert {path: site.look(path) for path in numbers} == numbers
    assert site.read(site.look("one/b:2/f")) == b"c"
    assert site.tree.readlink(site.look("one/latest")) == b"b:2"


def test_a_snapshot_that_was_replaced_stays_for_those_inside() -> None:
    site = Site()
    directory, opened = site.look("one/a:1/d"), site.look("one/a:1/f")
    old = site.look("one/a:1")
    changed = image(site.objects, {"f": b"new", "d": {"g": b"g2"}})
    invalidations = site.switch(live(site.objects, {"one": {"a:1": changed, "b:1": site.b, "latest": "a:1"}}))
    assert Invalidation(site.look("one"), b"a:1") in invalidations
    assert Invalidation(ROOT, b"two") in invalidations
    assert site.read(opened) == b"a"
    assert site.names(directory) == [b"g"]
    assert site.tree.parent(directory) == old
    assert site.look("one/a:1") != old
    assert site.read(site.look("one/a:1/f")) == b"new"
    assert site.look("one/a:1/d") != directory


def test_a_folder_that_went_shows_its_last_content_to_those_inside() -> None:
    site = Site()
    two = site.look("two")
    site.switch(live(site.objects, {"one": {"a:1": site.a}}))
    assert site.tree.lookup(ROOT, b"two") is None
    assert site.names(two) == [b"c:1"]


def test_a_folder_that_came_back_shows_what_is_there_now() -> None:
    site = Site()
    two = site.look("two")
    site.switch(live(site.objects, {"one": {"a:1": site.a}}))
    invalidations = site.switch(live(site.objects, {"two": {"d:1": site.a}}), 3)
    assert site.look("two") == two
    assert site.names(two) == [b"d:1"]
    assert {Invalidation(two, b"c:1"), Invalidation(two, b"d:1"), Invalidation(two, None)} <= set(
        invalidations
    )


def test_nothing_changes_before_everything_is_here() -> None:
    site = Site()
    one = site.look("one")
    new = live(site.objects, {"one": {"b:1": site.b}})
    site.objects.here = set(site.objects) - {new.ref.digest}
    with pytest.raises(Need) as need:
        site.switch(new)
    assert need.value.refs == (new.ref,)
    assert site.tree.repositories["test"].revision == 1
    assert site.names(one) == [b"a:1", b"b:1", b"latest"]
    fetched: dict[Digest, bytes] = {new.ref.digest: site.objects[new.ref.digest]}
    assert switch(site.tree, "test", new.ref, 2, fetched)
    assert site.names(one) == [b"b:1"]


def test_the_same_revision_changes_nothing() -> None:
    site = Site()
    site.look("one/a:1/f")
    assert site.switch(site.first) == []


def test_a_root_that_is_an_image_is_replaced_whole() -> None:
    objects = Objects()
    old, new = image(objects, {"f": b"1", "same": b"s"}), image(objects, {"f": b"2", "same": b"s"})
    tree = Tree(SlotTable())
    tree.show_repository(Repository("test", objects, old.ref, 1))
    held = tree.lookup(ROOT, b"f")
    assert held is not None
    tree.hold(held.number)
    invalidations = switch(tree, "test", new.ref, 2)
    assert set(invalidations) == {
        Invalidation(ROOT, b"f"),
        Invalidation(ROOT, b"same"),
        Invalidation(ROOT, None),
    }
    assert read_content(tree, held.number) == b"1"


def test_a_thousand_revisions_leave_nothing_behind() -> None:
    site = Site()
    for revision in range(2, 1002):
        tag = f"v:{revision}"
        assert site.switch(live(site.objects, {"one": {"a:1": site.a, tag: site.b}}), revision)
        for path in ("one/a:1/f", f"one/{tag}"):
            for number in reversed(site.way(path)):
                site.tree.forget(number, 1)
    site.tree.slots.sweep("test")
    assert len(site.tree.slots) == 1


def test_an_image_that_gets_a_profile_is_not_dropped() -> None:
    site = Site()
    site.look("two/c:1/f")
    hinted = folder_of(site.c)
    hinted.xattrs = (profile.hint(ref_of(b"a profile")),)
    one = {"a:1": site.a, "b:1": site.b, "latest": "a:1"}
    invalidations = site.switch(live(site.objects, {"one": one, "two": {"c:1": hinted}}))
    assert {change.name for change in invalidations} == {None}


def test_the_catalogs_of_all_changed_folders_are_asked_for_at_once() -> None:
    """One by one, a revision that changes more folders than a call may have rounds could not be shown."""
    site = Site()
    folders = [f"folder{number}" for number in range(100)]
    site.switch(live(site.objects, {name: {f"{name}:1": site.a} for name in folders}), 2)
    for name in folders:
        site.look(name)
    last = live(site.objects, {name: {f"{name}:1": site.b} for name in folders})
    site.tree.parsed.clear()
    site.objects.here = set()
    asked: list[int] = []
    fetched: dict[Digest, bytes] = {}
    while True:
        try:
            invalidations = switch(site.tree, "test", last.ref, 3, fetched)
            break
        except Need as need:
            asked.append(len(need.refs))
            fetched |= {ref.digest: site.objects[ref.digest] for ref in need.refs}
    assert asked == [2, 2 * len(folders)]
    assert len(invalidations) > len(folders)
