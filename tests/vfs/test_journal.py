"""Inode numbers stay the same when a new process takes over from the one that has assigned them."""

import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.catalog.inode import Nested
from lazyfs.system.bounded_look import ask_one
from lazyfs.vfs import journal, journal_overflow
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.journal_overflow import JournalOverflow
from lazyfs.vfs.journal_records import HeldNumbers, parse
from lazyfs.vfs.revision_switch import switch
from lazyfs.vfs.shared_files import SharedFiles
from lazyfs.vfs.slots import SlotRecord, SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.content import read_content
from tests.support.images import Objects, file, image, live, packed


def held_in(path: str) -> HeldNumbers:
    return parse(Path(path).read_bytes())[0]


def overflow() -> JournalOverflow:
    return JournalOverflow(os.memfd_create("overflow"), 0, memoryview(bytearray(8)).cast("Q"))


class Life:
    """A tree with a journal of its inode numbers, and the tree of the process that takes over."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "journal")
        self.objects = Objects()
        link = file(self.objects, b"link")
        spec = {
            "d": {f"f{i}": b"%d" % i for i in range(30)} | {"link": link},
            "link": link,
            "large": b"L" * 70_000,
            **packed(self.objects, {"before": b"before", "packed": b"P" * 70_000}),
        }
        self.root = live(
            self.objects, {"one": {"img": image(self.objects, spec, split=20)}, "tag": "one/img"}
        )
        self.journal = journal.begin(self.path, overflow())
        self.tree = Tree(SlotTable(self.journal.slot), shared_files=SharedFiles(self.journal.shared_file))
        self.tree.show_repository(Repository("test", self.objects, self.root.ref, 1))

    def reborn(self, root: Nested | None = None) -> Tree:
        slots, shared_files, *_ = held_in(self.path)
        tree = Tree(SlotTable())
        tree.slots.restore(slots)
        tree.shared_files.restore(shared_files)
        tree.show_repository(Repository("test", self.objects, (root or self.root).ref, 1))
        return tree


def numbers(tree: Tree, at: int = ROOT, path: bytes = b"") -> dict[bytes, int]:
    found = {}
    for name, attributes in tree.listing(at):
        tree.hold(attributes.number)
        found[path + name] = attributes.number
        if attributes.mode >> 12 == 4:
            found |= numbers(tree, attributes.number, path + name + b"/")
    return found


def test_a_new_process_answers_for_every_number(tmp_path: Path) -> None:
    life = Life(tmp_path)
    given_out = numbers(life.tree)
    after = life.reborn()
    for number in given_out.values():
        before = life.tree.getattr(number)
        assert after.getattr(number) == before
        if before.mode >> 12 == 8:
            assert read_content(after, number) == read_content(life.tree, number)
    assert numbers(after) == given_out


def test_new_numbers_are_none_of_the_old(tmp_path: Path) -> None:
    life = Life(tmp_path)
    before = set(numbers(life.tree).values())
    after = life.reborn()
    other = image(life.objects, {"f": b"other", "large": b"M" * 70_000})
    switch(after, "test", live(life.objects, {"one": {"other": other}}).ref, 2)
    fresh = {number for path, number in numbers(after).items() if path.startswith(b"one/other")}
    assert len(fresh) == 3
    assert not fresh & before


def test_what_was_forgotten_is_not_restored(tmp_path: Path) -> None:
    life = Life(tmp_path)
    held = numbers(life.tree)
    for number in held.values():
        life.tree.forget(number, 1)
    life.tree.slots.sweep("test")
    life.tree.shared_files.sweep(life.tree.slots, "test")
    assert len(life.tree.slots) == 1
    slots, shared_files, *_ = held_in(life.path)
    assert [slot.path for slot in slots] == [b""]
    assert shared_files == []


def test_a_shared_file_that_waits_is_no_other_file_afterwards(tmp_path: Path) -> None:
    """The kernel holds a shared file (one inode for equal files of several images) longer than the slot that
    its inode number comes from. The next process may give the number to another file, so the journal must not
    restore the shared file."""
    life = Life(tmp_path)
    numbers_before = numbers(life.tree)
    shared = numbers_before[b"one/img/large"]
    life.tree.slots.sweep("test")  # as after a new revision
    life.tree.shared_files.sweep(life.tree.slots, "test")
    for number in numbers_before.values():
        life.tree.forget(number, 1)
    assert shared >> 32 not in life.tree.slots
    assert [copy for copy in held_in(life.path)[1] if copy.number == shared] == []


def test_the_file_is_written_anew_without_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "COMPACT_AT", 4000)
    life = Life(tmp_path)
    for _ in range(50):
        for number in numbers(life.tree).values():
            life.tree.forget(number, 1)
        life.tree.slots.sweep("test")
        life.tree.shared_files.sweep(life.tree.slots, "test")
    given_out = numbers(life.tree)
    assert os.path.getsize(life.path) < 8000
    assert numbers(life.reborn()) == given_out


@given(cut=st.integers(0, 400), flip=st.integers(0, 400), value=st.integers(0, 255))
def test_a_torn_or_damaged_file_loads_what_it_can(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, value: int
) -> None:
    life = Life(tmp_path_factory.mktemp("life"))
    numbers(life.tree)
    data = bytearray(Path(life.path).read_bytes())
    whole, *_ = held_in(life.path)
    Path(life.path).write_bytes(data[: len(data) - cut])
    slots, *_ = held_in(life.path)
    assert slots == whole[: len(slots)]
    data[flip % len(data)] = value
    Path(life.path).write_bytes(data)
    held_in(life.path)


def test_a_failing_disk_breaks_the_journal_and_nothing_else(tmp_path: Path) -> None:
    life = Life(tmp_path)
    os.close(life.journal._file)
    given_out = numbers(life.tree)
    assert given_out
    assert "Bad file descriptor" in life.journal.broken
    assert not life.journal.is_lossy


def test_a_record_that_found_no_memory_is_followed_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes later may lie below it: a slot comes after the slot above."""
    monkeypatch.setattr(journal_overflow, "MOST", 10)
    memory = overflow()
    assert memory.append(b"12345")
    assert not memory.append(b"123456")
    assert not memory.append(b"1")
    assert memory.is_full
    assert memory.read() == b"12345"
    memory.cut(0)
    assert memory.append(b"1")
    assert memory.read() == b"1"


def test_a_second_mount_at_the_path_has_a_file_of_its_own(tmp_path: Path) -> None:
    """After a lazy unmount, the first daemon still serves open files while the second daemon starts."""
    first = Life(tmp_path)
    given_out = numbers(first.tree)
    second = Life(tmp_path)
    assert numbers(second.tree) == given_out
    slots = held_in(second.path)
    first.journal.slot(12345)
    assert held_in(second.path) == slots
    first.journal.close()
    assert held_in(second.path) == slots
    second.journal.close()
    assert not Path(second.path).exists()


def test_a_first_mount_that_compacts_late_leaves_the_file_of_the_second(
    tmp_path: Path,
) -> None:
    first = Life(tmp_path)  # has assigned no numbers, so a compacted file of its own would differ
    second = Life(tmp_path)
    numbers(second.tree)
    slots = held_in(second.path)
    first.journal._compact_at = 1
    first.journal.slot(12345)
    assert first.journal.broken == ""
    assert held_in(second.path) == slots


def test_a_record_of_which_a_part_fits_is_written_anew(tmp_path: Path) -> None:
    """The file can grow by only 20 bytes, so write(2) writes part of a record, and reports this only by its
    return value. Records after an incomplete one could not be read."""
    path = str(tmp_path / "journal")
    records = [SlotRecord(slot, "r", b"p" * 99, False, bytes(32), 1, 0, 0) for slot in (1, 2, 3)]

    def write() -> tuple[str, int, str]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        kept = journal.begin(path, overflow())
        kept.slot(records[0])
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(path).st_size + 20, most))
        kept.slot(records[1])
        full, there = kept.broken, len(held_in(path).slots)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        kept.slot(records[2])
        kept.mend()
        return full, there, kept.broken

    full, there, broken = ask_one(write, 30).value
    assert "File too large" in full
    assert (there, broken) == (1, "")
    assert held_in(path).slots == records


def test_lookups_that_were_handed_over_free_slots_as_before(tmp_path: Path) -> None:
    life = Life(tmp_path)
    held = numbers(life.tree)
    assert life.journal.hand_over(life.tree.lookups())
    successor = Tree(SlotTable())
    successor.restore(journal.resume(life.path, overflow())[1])
    successor.show_repository(Repository("test", life.objects, life.root.ref, 1))
    assert successor.lookups() == life.tree.lookups()
    for tree in (life.tree, successor):
        for number in held.values():
            tree.forget(number, 1)
        tree.slots.sweep("test")
        tree.shared_files.sweep(tree.slots, "test")
    assert {slot.number for slot in successor.slots} == {slot.number for slot in life.tree.slots}
    assert len(successor.shared_files) == len(life.tree.shared_files) == 0


def test_lookups_count_for_one_successor(tmp_path: Path) -> None:
    """What the kernel looks up afterwards need not leave a record, and this successor may be killed."""
    life = Life(tmp_path)
    numbers(life.tree)
    assert life.journal.hand_over(life.tree.lookups())
    first, held = journal.resume(life.path, overflow())
    assert held.lookups == life.tree.lookups()
    assert journal.resume(life.path, overflow())[1].lookups is None
    first.close()


def test_lookups_do_not_count_once_the_process_has_gone_on(tmp_path: Path) -> None:
    """The lookup counts were recorded for a successor, which could not be started. Since then, the process
    has served further lookups; those of known numbers leave no record."""
    life = Life(tmp_path)
    numbers(life.tree)
    assert life.journal.hand_over(life.tree.lookups())
    before = held_in(life.path)
    assert before.lookups is not None
    life.journal.go_on()
    numbers(life.tree)
    assert held_in(life.path) == before._replace(lookups=None)


def test_a_switch_is_written_down_when_the_kernel_has_dropped_the_old_names(tmp_path: Path) -> None:
    """The journal records a new revision only after the kernel has dropped the old names. A successor that
    starts earlier still finds the old revision, and makes the kernel drop the old names again."""
    life = Life(tmp_path)
    numbers(life.tree)
    new = live(life.objects, {"one": {"img": image(life.objects, {"f": b"new"})}})
    dropped = switch(life.tree, "test", new.ref, 2)
    early = life.reborn(new)
    assert set(switch(early, "test", new.ref, 2)) == set(dropped)
    life.tree.slots.record_moves()
    assert switch(life.reborn(new), "test", new.ref, 2) == []
