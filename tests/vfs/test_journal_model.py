"""The numbers of a mount against a model of its kernel, while the journal's disk fills up and fails and
daemons die at any moment: a number that was given out never leads to another file, and to none only if the
memory in the disk's place was full too."""

import errno
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lazyfs.system.durable_file import write_all
from lazyfs.system.trusted_files import open_file
from lazyfs.vfs import journal, journal_overflow
from lazyfs.vfs.attributes import Attributes
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.journal_records import NO_NUMBERS, HeldNumbers
from lazyfs.vfs.revision_switch import switch
from lazyfs.vfs.shared_files import SharedFiles
from lazyfs.vfs.shown_numbers import ShortNumbers
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.content import read_content
from tests.support.counts import count
from tests.support.images import Objects, image, live

NAMES = "abcdef"
FILES = {name: {"f": name.encode(), "own": name.encode() * 70_000, "same": bytes(70_000)} for name in NAMES}
OBJECTS = Objects()
IMAGES = {name: image(OBJECTS, FILES[name]) for name in NAMES}
ROOTS = [live(OBJECTS, {"lib": {name: IMAGES[name] for name in NAMES[:end]}}).ref for end in range(1, 7)]

names = st.sampled_from(NAMES)
bytes_of_a_record = st.integers(0, 400)


class Killed(BaseException):
    """The process is killed in the middle of a write."""


class Disk:
    """The disk of the journal; also the memory in its place, as far as writing kills the process."""

    def __init__(self) -> None:
        self.room: int | None = None
        """The number of bytes that it still takes; None if it is not full."""
        self.read_only = False
        self.kills_after: int | None = None
        """The number of bytes after which a write kills the process."""
        self.kills_after_rename = False
        self._pwrite, self._rename = os.pwrite, os.rename

    def write_all(self, file: int, data: bytes) -> None:
        if self.kills_after is not None:
            write_all(file, data[: self.kills_after])
            raise Killed
        self._check()
        fits = data if self.room is None else data[: self.room]
        write_all(file, fits)
        if self.room is not None:
            self.room -= len(fits)
        if len(fits) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_file(self, path: str, flags: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            self._check()
        return open_file(path, flags)

    def ftruncate(self, file: int, size: int) -> None:
        self._check()
        os.truncate(file, size)

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        if self.kills_after is not None:
            self._pwrite(file, data[: self.kills_after], offset)
            raise Killed
        return self._pwrite(file, data, offset)

    def rename(self, old: str, new: str) -> None:
        self._rename(old, new)
        if self.kills_after_rename:
            self.kills_after_rename = False
            raise Killed

    def _check(self) -> None:
        if self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))


class Mount(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.disk = Disk()
        self.patches = ExitStack()
        for place, name, value in (
            (journal, "write_all", self.disk.write_all),
            (journal, "open_file", self.disk.open_file),
            (os, "ftruncate", self.disk.ftruncate),
            (os, "pwrite", self.disk.pwrite),
            (os, "rename", self.disk.rename),
            (journal, "COMPACT_AT", 4000),
        ):
            self.patches.enter_context(patch.object(place, name, value))
        *self.given_out, self.length = (memoryview(bytearray(8)).cast("Q") for _ in range(4))
        self.memory = os.memfd_create("overflow")
        self.revision = 0
        self.held: dict[int, int] = {}
        """For each number that the kernel knows, its lookups."""
        self.content: dict[int, bytes] = {}
        """For each number that a file ever had, its first bytes."""
        self.paths: dict[int, bytes] = {}
        """For each number that a directory ever had, its path."""
        self.shown: dict[int, int] = {}
        """The number behind each number that a program ever saw."""
        self.lost: set[int] = set()
        self.journal = journal.begin(str(Path(self.directory, "journal")), self.overflow())
        self.serve(NO_NUMBERS)

    def overflow(self) -> journal_overflow.JournalOverflow:
        return journal_overflow.JournalOverflow(self.memory, 0, self.length)

    @initialize(most=st.sampled_from([1 << 20, 1500]))
    def bound_the_memory(self, most: int) -> None:
        self.patches.enter_context(patch.object(journal_overflow, "MOST", most))

    def teardown(self) -> None:
        self.patches.close()
        self.journal.close()
        os.close(self.memory)
        shutil.rmtree(self.directory)

    def serve(self, held: HeldNumbers) -> None:
        """Is a new daemon, which knows the numbers `held`."""
        slot, shared_file, block = self.given_out
        numbers = ShortNumbers(record=self.journal.block, last=block)
        self.tree = Tree(
            SlotTable(self.journal.slot, slot),
            shared_files=SharedFiles(self.journal.shared_file, shared_file),
            shown=numbers.shown,
        )
        self.tree.restore(held)
        numbers.restore(held.blocks)
        self.tree.show_repository(Repository("r", OBJECTS, ROOTS[self.revision], self.revision))
        switch(self.tree, "r", ROOTS[self.revision], self.revision)
        self.tree.slots.record_moves()

    def take_over(self, *, whole: bool) -> None:
        """`whole`: disk and memory lacked no number that the kernel knows."""
        os.close(self.journal._file)
        self.journal, held = journal.resume(self.journal.path, self.overflow())
        self.serve(held)
        gone = {number for number in self.held if not self.answers(number)}
        assert not whole or gone <= self.lost
        self.lost |= gone

    def answers(self, number: int) -> bool:
        """Returns False for ESTALE. Any other answer has to be the right one."""
        try:
            if number in self.content:
                assert read_content(self.tree, number, 0, 9) == self.content[number]
            else:
                self.tree.getattr(number)
                assert self.tree.path_of(number) == self.paths[number]
            return True
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return False

    def told(self, found: Attributes) -> None:
        self.tree.hold(found.number)
        self.held[found.number] = self.held.get(found.number, 0) + 1
        assert found.number not in self.lost
        assert self.shown.setdefault(found.shown, found.number) == found.number

    @rule(name=names, file=st.sampled_from(["f", "own", "same"]))
    def enter(self, name: str, file: str) -> None:
        number, path = ROOT, []
        for part in ("lib", name, file):
            found = self.tree.lookup(number, part.encode())
            if found is None:
                return  # not in this revision
            number = found.number
            path.append(part.encode())
            if len(path) == 3:
                self.content.setdefault(number, FILES[name][file][:9])
            else:
                self.paths.setdefault(number, b"/".join(path))
            self.told(found)
        assert read_content(self.tree, number, 0, 9) == FILES[name][file][:9]

    @rule(kept=st.sets(names))
    def forget(self, kept: set[str]) -> None:
        """Makes the kernel forget all images but those whose names are in `kept`."""
        stay = {b"lib"} | {b"lib/" + name.encode() for name in kept}
        for number in reversed(list(self.held)):
            if self.paths.get(number) not in stay:
                self.tree.forget(number, self.held.pop(number))

    @rule(revision=st.integers(0, 5))
    def publish(self, revision: int) -> None:
        self.revision = revision
        switch(self.tree, "r", ROOTS[revision], revision)
        self.tree.slots.record_moves()

    @rule(room=bytes_of_a_record)
    def fill(self, room: int) -> None:
        self.disk.room = room

    @rule()
    def fail(self) -> None:
        self.disk.read_only = True

    @rule()
    def repair(self) -> None:
        self.disk.room, self.disk.read_only = None, False

    @rule()
    def mend(self) -> None:
        self.journal.mend()
        assert not self.journal.broken or self.disk.read_only or self.disk.room is not None

    @rule()
    def kill(self) -> None:
        self.take_over(whole=not self.journal.is_lossy)

    @rule()
    def kill_in_a_mend(self) -> None:
        self.disk.kills_after_rename = True
        try:
            self.journal.mend()
        except Killed:
            self.take_over(whole=True)
        self.disk.kills_after_rename = False

    @rule(name=names, after=bytes_of_a_record)
    def kill_in_a_record(self, name: str, after: int) -> None:
        whole = not self.journal.is_lossy
        self.disk.kills_after = after
        try:
            self.enter(name, "own")
        except Killed:
            self.disk.kills_after = None
            self.take_over(whole=whole)
        self.disk.kills_after = None

    @rule(starts=st.booleans())
    def reload(self, starts: bool) -> None:
        """`starts`: otherwise the successor's program cannot be started."""
        if not self.journal.hand_over(self.tree.lookups()):
            assert self.journal.broken
            assert journal_overflow.MOST == 1500
        elif starts:
            self.take_over(whole=True)
        else:
            self.journal.go_on()

    @invariant()
    def no_number_leads_to_another_file(self) -> None:
        for number in (*self.content, *self.paths):
            known = self.answers(number)
            assert known or number in self.lost or number not in self.held


TestMount = pytest.mark.timeout(600)(Mount.TestCase)
TestMount.settings = settings(
    max_examples=count(60, 3000),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
