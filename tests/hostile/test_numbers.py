"""A hostile and an honest repository in one tree share no inode number."""

import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core import bounds
from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.core.errors import LazyfsError
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT, SPREAD, pack, unpack
from lazyfs.vfs.missing_objects import Need, NeedDecoding
from lazyfs.vfs.operator_xattrs import list_xattrs
from lazyfs.vfs.revision_switch import switch
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.content import read_content
from tests.support.counts import count
from tests.support.hostile_catalogs import (
    Change,
    Draft,
    changes,
    draft,
    hostile_lists,
    live,
    live_draft,
    with_changes,
)
from tests.support.images import Objects, file, folder, image
from tests.support.images import live as right_live

T = TypeVar("T")
REFUSED = (OSError, LazyfsError, Need)
OBJECTS = Objects()
RIGHT: Draft = draft(OBJECTS)
CHANGES: list[Change] = list(changes(RIGHT))
MOST_FILES = 200


class Missing(Objects):
    """Objects, some of which are absent."""

    def at_hand(self, ref: ObjectRef) -> bytes | None:
        return self.get(ref.digest)


class Site:
    """A tree with two repositories, one honest and one hostile."""

    def __init__(self, hostile: Objects, root: ObjectRef) -> None:
        honest = Objects()
        secret = file(honest, b"x" * 100, mode=0o600)
        top = right_live(honest, {"lab": {"a:1": image(honest, {"secret": secret, "d": folder(mode=0o700)})}})
        self.tree = Tree(SlotTable())
        self.tree.show_site(("honest", "hostile"))
        self.tree.show_repository(Repository("honest", honest, top.ref, 1))
        self.tree.show_repository(Repository("hostile", hostile, root, 1))
        # The hostile slots come first, so that a number beyond its slot would lead into an honest one.
        self._child(self._child(ROOT, b"hostile"), b"image")
        self.before = self.shown()

    def shown(self) -> list[tuple[bytes, object]]:
        """Returns everything that the honest repository shows."""
        return list(self._walk(self._child(ROOT, b"honest")))

    def _child(self, parent: int, name: bytes) -> int:
        found = self.tree.lookup(parent, name)
        assert found is not None
        self.tree.hold(found.number)
        return found.number

    def _walk(self, at: int) -> Iterator[tuple[bytes, object]]:
        for name, found in self.tree.listing(at):
            self.tree.hold(found.number)  # as the kernel does: a number may change while nobody holds it
            yield name, self.tree.getattr(found.number)
            if stat.S_ISDIR(found.mode):
                yield from self._walk(found.number)

    def switch(self, root: ObjectRef, revision: int) -> None:
        """Shows another revision of the hostile repository."""
        for _ in range(8):
            try:
                switch(self.tree, "hostile", root, revision)
            except NeedDecoding as need:
                need.decode()()
            else:
                return
        raise AssertionError("it is decoded again and again")

    def attack(self) -> int:
        """Makes every kind of request to the hostile repository; returns the number of files found there."""
        seen = {ROOT}
        waiting = [self._child(ROOT, b"hostile")]
        while waiting and len(seen) < MOST_FILES:
            number = waiting.pop()
            slot = self.tree.slots.get(unpack(number)[0])
            assert slot is not None
            assert slot.repository == "hostile"
            if number in seen:
                continue
            seen.add(number)
            waiting += self._ask(number)
        return len(seen)

    def _ask(self, number: int) -> list[int]:
        tree = self.tree
        found = []
        questions: tuple[Callable[[int], object], ...] = (
            tree.getattr, tree.readlink, tree.parent, tree.path_of, tree.xattrs,
        )  # fmt: skip
        for question in questions:
            self._try(partial(question, number))
        self._try(lambda: list_xattrs(tree, number))
        for offset in (0, 5, 1 << 16, 1 << 62):
            self._try(partial(read_content, tree, number, offset, 1 << 17))
        listed = self._try(lambda: list(tree.listing(number)))
        for name, attributes in listed or []:
            tree.hold(attributes.number)
            found.append(attributes.number)
            again = self._try(partial(tree.lookup, number, name))
            if again is not None:
                found.append(again.number)
        return found

    def _try(self, call: Callable[[], T]) -> T | None:
        for _ in range(3):
            try:
                return call()
            except NeedDecoding as need:
                try:
                    need.decode()()
                except REFUSED:
                    return None
            except REFUSED:
                return None
        return None


def site_of(catalog: bytes, objects: Objects) -> Site:
    hostile = Missing()
    hostile.update(objects)
    hostile.put(catalog)
    root = live({b"image": ref_of(catalog)})
    hostile.put(root)
    return Site(hostile, ref_of(root))


def test_the_right_catalog_is_read_whole() -> None:
    site = site_of(RIGHT.encode(), OBJECTS)
    assert site.attack() >= 12
    assert site.shown() == site.before


@settings(max_examples=count(300, 20_000))
@given(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=4))
def test_no_number_leads_into_another_repository(some: list[Change]) -> None:
    catalog = with_changes(RIGHT, some)
    if catalog is None or len(catalog) > bounds.OBJECT:
        return
    site = site_of(catalog, OBJECTS)
    site.attack()
    assert site.shown() == site.before


@pytest.mark.parametrize("part", range(8))
def test_every_field_takes_every_extreme(part: int) -> None:
    for change in CHANGES[part :: 8 * count(12, 1)]:
        catalog = with_changes(RIGHT, [change])
        if catalog is not None and len(catalog) <= bounds.OBJECT:
            site = site_of(catalog, OBJECTS)
            site.attack()
            assert site.shown() == site.before, change


def test_hostile_chunk_lists() -> None:
    objects = Missing()
    for listed, size, shift in hostile_lists(objects):
        made = draft(objects)
        made.directories[0][0][5:8] = [size, objects.put(listed), shift]
        site = site_of(made.encode(), objects)
        site.attack()
        assert site.shown() == site.before


@given(st.integers(1, (1 << 32) - 1), st.integers(-(1 << 64), 1 << 64))
def test_a_number_stays_in_its_slot_by_construction(slot: int, index: int) -> None:
    """Even if the catalog reader accepts a wrong index, the inode number stays in the catalog's slot."""
    try:
        number = pack(slot, index)
    except LazyfsError:
        assert not 0 <= index < 1 << 32
    else:
        assert unpack(number) == (slot, index)


def test_hardlink_numbers_of_a_catalog_s_largest_index_and_id() -> None:
    assert unpack(pack(5, bounds.ENTRIES)) == (5, bounds.ENTRIES)
    assert not bounds.ENTRIES & SPREAD
    assert unpack(pack(5, SPREAD | bounds.SHARED_ID)) == (5, 0xFFFF_FFFF)


ROOTS: Draft = live_draft({b"image": ref_of(RIGHT.encode()), b"other": ref_of(RIGHT.encode())})
ROOT_CHANGES: list[Change] = list(changes(ROOTS))


@settings(max_examples=count(300, 20_000))
@given(st.lists(st.sampled_from(ROOT_CHANGES), min_size=1, max_size=3))
def test_a_hostile_revision_on_a_live_mount(some: list[Change]) -> None:
    """The mount shows the hostile revision, or stays at the old one. Afterwards it can show the old one in
    either case."""
    root = with_changes(ROOTS, some)
    if root is None:
        return
    objects = Missing()
    objects.update(OBJECTS)
    objects.put(RIGHT.encode())
    objects.put(root)
    before = ROOTS.encode()
    objects.put(before)
    site = Site(objects, ref_of(before))
    for number, ref in enumerate((ref_of(root), ref_of(before)), 2):
        try:
            site.switch(ref, number)
        except REFUSED:
            continue
        site.attack()
        assert site.shown() == site.before
    assert site.attack() > 12
