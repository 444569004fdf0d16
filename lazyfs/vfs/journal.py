"""The journal of a mount: the inode numbers given out, on disk, so that a new process can answer for them.

The file is appended to. Each record is written before the answer that needs it, so the numbers of a record
that is cut off were never given to the kernel. Nothing is fsynced: the numbers have to survive the process,
not the machine, whose kernel forgets them too.

While the disk is full or fails, the records go into memory (`journal_overflow`), and the file is written anew
once the disk works. A number that even the memory lacks is answered with ESTALE by a successor, and is not
given to another file (`rising_numbers`).
"""

import os
from collections.abc import Iterable
from contextlib import suppress

from lazyfs.system.durable_file import write_all
from lazyfs.system.trusted_files import Untrusted, open_file
from lazyfs.vfs.journal_overflow import JournalOverflow
from lazyfs.vfs.journal_records import (
    BLOCK,
    FREED,
    LOOKUPS,
    NO_NUMBERS,
    SHARED,
    SHARED_FREED,
    SLOT,
    HeldNumbers,
    Lookups,
    packed,
    parse,
)
from lazyfs.vfs.shared_files import SharedFile
from lazyfs.vfs.shown_numbers import ShownBlock
from lazyfs.vfs.slots import SlotRecord

COMPACT_AT = 1 << 20
"""Bytes at which the file is first written anew, without the freed numbers. Later it is written anew each
time that its size has doubled."""


class Journal:
    """Writes the file of one mount. A failing disk never raises: the mount goes on, and `broken` has the
    error until `mend` could write the whole file anew."""

    def __init__(
        self,
        path: str,
        file: int,
        overflow: JournalOverflow,
        size: int = 0,
        held: HeldNumbers = NO_NUMBERS,
        broken: str = "",
    ) -> None:
        """`file`: the file's descriptor, at its end. `overflow`: takes the records that the disk does not
        take. `size`: the file's size in bytes. `held`: the numbers in both."""
        self.path = path
        self._file = file
        """-1 once the journal is closed."""
        self._overflow = overflow
        self._overflowed = 0
        """The bytes of the overflow before the lookups were handed over."""
        self._size = size
        self._slots = {record.slot: record for record in held.slots}
        self._shared_files = {record.number: record for record in held.shared_files}
        self._blocks: dict[int, dict[int, ShownBlock]] = {}
        """For each slot, the blocks of 32-bit inode numbers that are allotted to it (`shown_numbers`), by the
        number of their run. A run is 256 entries of the slot's catalog."""
        for block in held.blocks:
            self._blocks.setdefault(block.slot, {})[block.run] = block
        self._compact_at = COMPACT_AT
        self.broken = broken
        """The reason why the file lacks records; empty if it has them all."""

    @property
    def is_lossy(self) -> bool:
        """True if a successor would not find all numbers: the disk and the memory have no room."""
        return bool(self.broken) and self._overflow.is_full

    def slot(self, record: SlotRecord | int) -> None:
        """Writes a slot's record, or the number of a freed slot. Serves as `record` of a SlotTable."""
        if isinstance(record, SlotRecord):
            self._slots[record.slot] = record
            self._write(SLOT, record)
        else:
            self._slots.pop(record, None)
            self._blocks.pop(record, None)
            self._write(FREED, record)

    def shared_file(self, record: SharedFile | int) -> None:
        """Writes a shared file, or the number of a forgotten one. Serves as `record` of SharedFiles."""
        if isinstance(record, SharedFile):
            self._shared_files[record.number] = record
            self._write(SHARED, record)
        else:
            self._shared_files.pop(record, None)
            self._write(SHARED_FREED, record)

    def block(self, record: ShownBlock) -> None:
        """Writes a block of shown numbers, which is freed with its slot. Serves as `record` of
        ShortNumbers."""
        self._blocks.setdefault(record.slot, {})[record.run] = record
        self._write(BLOCK, record)

    def hand_over(self, lookups: Lookups) -> bool:
        """Writes the lookups, for a successor. They count only if no other record follows. Returns False if
        a successor would not find everything."""
        self.mend()
        data = packed(LOOKUPS, lookups)
        if not self.broken:
            try:
                write_all(self._file, data)
                return True
            except OSError as error:
                self._break(error)
        if self.is_lossy:
            return False
        self._overflowed = self._overflow.length
        if self._overflow.append(data):
            return True
        self._overflow.cut(self._overflowed)
        return False

    def go_on(self) -> None:
        """Undoes `hand_over`, because there is no successor: the kernel's lookups change without a record."""
        if self.broken:
            self._overflow.cut(self._overflowed)
            return
        try:
            _cut(self._file, self._size)
        except OSError as error:
            self._break(error)

    def mend(self) -> None:
        """Writes the file anew if it lacks records, unless another mount's file has its path. Call it under
        the lock that is held around every record."""
        if not self.broken or self._file < 0:
            return
        try:
            if self._is_ours():
                self._write_anew()
                # A successor that finds the records in the overflow too reads the same from them.
                self._overflow.cut(0)
                self.broken = ""
        except (OSError, Untrusted) as error:
            self._break(error)

    def _write(self, kind: int, record: object) -> None:
        data = packed(kind, record)
        if not self.broken:
            try:
                write_all(self._file, data)
                self._size += len(data)
            except OSError as error:
                self._break(error)
        if self.broken:
            self._overflow.append(data)
        elif self._size >= self._compact_at:
            self._compact()

    def _break(self, error: OSError | Untrusted) -> None:
        self.broken = f"{self.path}: {error.strerror}" if isinstance(error, OSError) else str(error)

    def _is_ours(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except FileNotFoundError:
            return True

    def _compact(self) -> None:
        with suppress(OSError, Untrusted):  # the file is longer than it need be, and whole
            if self._is_ours():
                self._write_anew()
        self._compact_at = max(COMPACT_AT, 2 * self._size)

    def _write_anew(self) -> None:
        """Replaces the file by one with the numbers in use."""
        blocks = (block for of_slot in self._blocks.values() for block in of_slot.values())
        records: tuple[tuple[int, Iterable[object]], ...] = (
            (SLOT, self._slots.values()),
            (SHARED, self._shared_files.values()),
            (BLOCK, blocks),
        )
        whole = b"".join(packed(kind, record) for kind, of_kind in records for record in of_kind)
        file = _new_file(self.path, whole)
        os.close(self._file)
        self._file, self._size = file, len(whole)

    def close(self) -> None:
        """Removes the file: with its mount the kernel has forgotten the numbers. A file that stays was left
        by a killed process."""
        with suppress(OSError):
            if self._is_ours():
                os.unlink(self.path)
        os.close(self._file)
        self._file, self.broken = -1, "closed"


def begin(path: str, overflow: JournalOverflow) -> Journal:
    """Begins the file of a mount of which the kernel knows no numbers yet. An earlier daemon that is still
    ending keeps its own file, which no longer has this path. Raises OSError, Untrusted."""
    return Journal(path, _new_file(path, b""), overflow)


def resume(path: str, overflow: JournalOverflow) -> tuple[Journal, HeldNumbers]:
    """Goes on with the file and the overflow that an earlier process of the mount has left. Returns the
    numbers in them too. Raises OSError or Untrusted if the file cannot be read.

    It needs no room on the disk, so a full disk keeps no successor from serving. The lookups are cut off,
    because they hold for this process alone; if they cannot be, they do not count.
    """
    broken = ""
    try:
        file = open_file(path, os.O_RDWR)
    except OSError as error:
        broken = f"{path}: {error.strerror}"
        file = open_file(path, os.O_RDONLY)
    with open(file, "rb", closefd=False) as stream:
        data = stream.read()
    held, end = parse(data)
    if not broken:
        try:
            _cut(file, end)
        except OSError as error:
            broken = f"{path}: {error.strerror}"
    if broken:
        held = held._replace(lookups=None)
    if overflow.length:
        held, whole = parse(data[:end] + overflow.read())
        overflow.cut(whole - end)
        broken = broken or f"{path}: lacks records"
    journal = Journal(path, file, overflow, end, held, broken)
    journal.mend()
    return journal, held


def _cut(file: int, size: int) -> None:
    """Cuts an open file off at `size` bytes; the next write goes there."""
    os.ftruncate(file, size)
    os.lseek(file, size, os.SEEK_SET)


def _new_file(path: str, data: bytes) -> int:
    """Replaces the file at `path` by one with these bytes. Returns its descriptor."""
    new = path + ".new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    file = open_file(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_all(file, data)
        os.rename(new, path)
    except BaseException:
        os.close(file)
        with suppress(OSError):
            os.unlink(new)  # what fits of it would take the room that others need
        raise
    return file
