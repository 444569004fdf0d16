"""The records of a mount's journal: the inode numbers that the kernel knows.

Each record is a kind (u8), a length (u32) and msgpack. There are six kinds: a slot allotted or changed, a
slot freed, a shared file, a shared file forgotten, a block of shown numbers (the inode numbers of 32 bits
that programs see), and the kernel's lookups of each number, at the end of a process that hands its mount
over. Of several records for one number the last one counts.
"""

import struct
from typing import NamedTuple

import msgspec

from lazyfs.vfs.inode_numbers import unpack
from lazyfs.vfs.shared_files import SharedFile
from lazyfs.vfs.shown_numbers import ShownBlock
from lazyfs.vfs.slots import SlotRecord

SLOT, FREED, SHARED, SHARED_FREED, BLOCK, LOOKUPS = range(6)
"""The kinds of records."""
_HEAD = struct.Struct("<BI")
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


def packed(kind: int, record: object) -> bytes:
    """Returns the bytes of one record."""
    payload = _encoder.encode(record)
    return _HEAD.pack(kind, len(payload)) + payload


def parse(data: bytes) -> tuple[HeldNumbers, int]:
    """Returns the numbers in use after these records, and the length of the whole ones. Lookups at the end
    are not counted in this length."""
    slots: dict[int, SlotRecord] = {}
    shared_files: dict[int, SharedFile] = {}
    blocks: dict[int, ShownBlock] = {}
    lookups = None
    at = end = 0
    while at + _HEAD.size <= len(data):
        kind, length = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
        if len(payload) < length:
            break
        lookups = None
        try:
            if kind == SLOT:
                slot = msgspec.msgpack.decode(payload, type=SlotRecord)
                slots[slot.slot] = slot
            elif kind == SHARED:
                shared = msgspec.msgpack.decode(payload, type=SharedFile)
                shared_files[shared.number] = shared
            elif kind == BLOCK:
                block = msgspec.msgpack.decode(payload, type=ShownBlock)
                blocks[block.run] = block
            elif kind == LOOKUPS:
                lookups = msgspec.msgpack.decode(payload, type=Lookups)
            else:
                gone = msgspec.msgpack.decode(payload, type=int)
                (slots if kind == FREED else shared_files).pop(gone, None)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break
        if kind != LOOKUPS:
            end = at
    if at != len(data):
        lookups = None  # a part of another record follows
    # A shared file that the kernel has forgotten may outlive its slot, whose number is allotted anew.
    held = [shared for shared in shared_files.values() if unpack(shared.number)[0] in slots]
    shown = [block for block in blocks.values() if block.slot in slots]
    return HeldNumbers(list(slots.values()), held, shown, lookups), end
