"""The inode numbers given out, on disk: after a process dies, a new one can answer for its numbers.

An append-only file of records, each a kind (u8), a length (u32) and msgpack. There are six kinds: a slot
allotted or changed, a slot freed, a shared file, a shared file forgotten, a block of shown numbers (the inode
numbers of 32 bits that programs see), and the kernel's lookups of each number, at the end of a process that
hands its mount over. Each record is written before the answer that needs it, so the numbers of a record that
is cut off were never given to the kernel. Nothing is fsynced: the numbers have to survive the process, not
the machine, whose kernel forgets them too.
"""

import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from lazyfs.system.durable_file import write_all
from lazyfs.system.trusted_files import Untrusted, open_file
from lazyfs.vfs.inode_numbers import unpack
from lazyfs.vfs.shared_files import SharedFile
from lazyfs.vfs.shown_numbers import ShownBlock
from lazyfs.vfs.slots import SlotRecord

COMPACT_AT = 1 << 20
"""Bytes at which the file is first written anew, without the freed numbers. Later it is written anew each
time that its size has doubled."""

_HEAD = struct.Struct("<BI")
_SLOT, _FREED, _SHARED, _SHARED_FREED, _BLOCK, _LOOKUPS = range(6)
_encoder = msgspec.msgpack.Encoder()


class Lookups(NamedTuple):
    """For each number, how often the kernel was told of it without giving it back since."""

    slots: dict[int, int]
    shared_files: dict[int, int]


class HeldNumbers(NamedTuple):
    """The numbers that a kernel knows."""

    slots: list[SlotRecord]
    """The slots in use; each slot comes before the slots of catalogs that are nested in its own."""
    shared_files: list[SharedFile]
    blocks: list[ShownBlock]
    lookups: Lookups | None = None
    """The kernel's lookups of the numbers; None after a process that was killed, because nobody knows them
    then."""


NO_NUMBERS = HeldNumbers([], [], [])


class Journal:
    """Writes the file of one mount. A failing disk never raises: the mount goes on, and `broken` has the
    error."""

    def __init__(self, path: str, held: HeldNumbers = NO_NUMBERS) -> None:
        """Begins a file with the numbers that the kernel knows; a fresh mount has none. Raises OSError,
        Untrusted.

        An earlier daemon that is still ending keeps its own file, which no longer has this path.
        """
        self.path = path
        self._slots = {record.slot: record for record in held.slots}
        self._shared_files = {record.number: record for record in held.shared_files}
        self._blocks: dict[int, dict[int, ShownBlock]] = {}
        """For each slot, the blocks of 32-bit inode numbers that are allotted to it (`shown_numbers`), by the
        number of their run. A run is 256 entries of the slot's catalog."""
        for block in held.blocks:
            self._blocks.setdefault(block.slot, {})[block.run] = block
        self._compact_at = COMPACT_AT
        self.broken = ""
        self._file, self._size = self._written_anew()

    def slot(self, record: SlotRecord | int) -> None:
        """Writes a slot's record, or the number of a freed slot. Serves as `record` of a SlotTable."""
        if isinstance(record, SlotRecord):
            self._slots[record.slot] = record
            self._write(_SLOT, _encoder.encode(record))
        else:
            self._slots.pop(record, None)
            self._blocks.pop(record, None)
            self._write(_FREED, _encoder.encode(record))

    def shared_file(self, record: SharedFile | int) -> None:
        """Writes a shared file, or the number of a forgotten one. Serves as `record` of SharedFiles."""
        if isinstance(record, SharedFile):
            self._shared_files[record.number] = record
            self._write(_SHARED, _encoder.encode(record))
        else:
            self._shared_files.pop(record, None)
            self._write(_SHARED_FREED, _encoder.encode(record))

    def block(self, record: ShownBlock) -> None:
        """Writes a block of shown numbers, which is freed with its slot. Serves as `record` of
        ShortNumbers."""
        self._blocks.setdefault(record.slot, {})[record.run] = record
        self._write(_BLOCK, _encoder.encode(record))

    def hand_over(self, lookups: Lookups) -> None:
        """Writes the lookups, for a successor. They count only if no other record follows."""
        self._write(_LOOKUPS, _encoder.encode(lookups))

    def go_on(self) -> None:
        """Undoes `hand_over`, because there is no successor: the kernel's lookups change without a record."""
        self._write(_FREED, _encoder.encode(0))  # no slot has this number

    def _write(self, kind: int, payload: bytes) -> None:
        if self.broken:
            return
        try:
            write_all(self._file, _HEAD.pack(kind, len(payload)) + payload)
            self._size += _HEAD.size + len(payload)
            if self._size >= self._compact_at:
                self._compact()
        except OSError as error:
            self.broken = f"{self.path}: {error.strerror}"
        except Untrusted as error:
            self.broken = str(error)

    def _is_ours(self) -> bool:
        return os.path.samestat(os.stat(self.path), os.fstat(self._file))

    def _compact(self) -> None:
        if not self._is_ours():
            return
        file, size = self._written_anew()
        os.close(self._file)
        self._file, self._size = file, size
        self._compact_at = max(COMPACT_AT, 2 * self._size)

    def _written_anew(self) -> tuple[int, int]:
        """Replaces the file by one with the numbers in use. Returns its descriptor and its size."""
        blocks = (block for of_slot in self._blocks.values() for block in of_slot.values())
        records: tuple[tuple[int, Iterable[object]], ...] = (
            (_SLOT, self._slots.values()),
            (_SHARED, self._shared_files.values()),
            (_BLOCK, blocks),
        )
        whole = b"".join(
            _HEAD.pack(kind, len(payload)) + payload
            for kind, of_kind in records
            for payload in map(_encoder.encode, of_kind)
        )
        with suppress(FileNotFoundError):
            os.unlink(self.path + ".new")
        file = open_file(self.path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        write_all(file, whole)
        os.rename(self.path + ".new", self.path)
        return file, len(whole)

    def close(self) -> None:
        """Removes the file: with its mount the kernel has forgotten the numbers. A file that stays was left
        by a killed process."""
        with suppress(OSError):
            if self._is_ours():
                os.unlink(self.path)
        os.close(self._file)
        self.broken = "closed"


def load(path: str) -> HeldNumbers:
    """Returns the numbers in use at the end of the file. Raises OSError, Untrusted."""
    with open(open_file(path, os.O_RDONLY), "rb") as file:
        data = file.read()
    slots: dict[int, SlotRecord] = {}
    shared_files: dict[int, SharedFile] = {}
    blocks: dict[int, ShownBlock] = {}
    lookups = None
    at = 0
    while at + _HEAD.size <= len(data):
        kind, length = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
        if len(payload) < length:
            break
        lookups = None
        try:
            if kind == _SLOT:
                slot = msgspec.msgpack.decode(payload, type=SlotRecord)
                slots[slot.slot] = slot
            elif kind == _SHARED:
                shared = msgspec.msgpack.decode(payload, type=SharedFile)
                shared_files[shared.number] = shared
            elif kind == _BLOCK:
                block = msgspec.msgpack.decode(payload, type=ShownBlock)
                blocks[block.run] = block
            elif kind == _LOOKUPS:
                lookups = msgspec.msgpack.decode(payload, type=Lookups)
            else:
                gone = msgspec.msgpack.decode(payload, type=int)
                (slots if kind == _FREED else shared_files).pop(gone, None)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break
    # A shared file that the kernel has forgotten may outlive its slot, whose number is allotted anew.
    held = [shared for shared in shared_files.values() if unpack(shared.number)[0] in slots]
    return HeldNumbers(
        list(slots.values()), held, [block for block in blocks.values() if block.slot in slots], lookups
    )
