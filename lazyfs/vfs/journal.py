"""The inode numbers given out, on disk: after a process dies, a new one can answer for its numbers.

An append-only file of records, each a kind (u8), a length (u32) and msgpack. There are four kinds: a slot
allotted or changed, a slot freed, a shared file, a shared file forgotten. Each record is written before the
answer that needs it, so the numbers of a record that is cut off were never given to the kernel. Nothing is
fsynced: the numbers have to survive the process, not the machine, whose kernel forgets them too.
"""

import os
import struct
from contextlib import suppress

import msgspec

from lazyfs.system.durable_file import write_all
from lazyfs.system.trusted_files import Untrusted, open_file
from lazyfs.vfs.inode_numbers import unpack
from lazyfs.vfs.shared_files import SharedFile
from lazyfs.vfs.slots import SlotRecord

COMPACT_AT = 1 << 20
"""Bytes after which the file is written anew without the freed numbers, if that halves it."""

_HEAD = struct.Struct("<BI")
_SLOT, _FREED, _SHARED, _SHARED_FREED = range(4)
_encoder = msgspec.msgpack.Encoder()


class Journal:
    """Writes the file of one mount. A failing disk never raises: the mount goes on, and `broken` has the
    error."""

    def __init__(self, path: str) -> None:
        """Begins an empty file, since a fresh mount's kernel knows no numbers. Raises OSError, Untrusted.

        A daemon that is still ending keeps its own file of this path, which loses its name.
        """
        self._path = path
        self._slots: dict[int, SlotRecord] = {}
        self._shared_files: dict[int, SharedFile] = {}
        self._size = 0
        self._compact_at = COMPACT_AT
        self.broken = ""
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._file = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def slot(self, record: SlotRecord | int) -> None:
        """Writes a slot's record, or the number of a freed slot. A SlotTable's observer."""
        if isinstance(record, SlotRecord):
            self._slots[record.slot] = record
            self._write(_SLOT, _encoder.encode(record))
        else:
            self._slots.pop(record, None)
            self._write(_FREED, _encoder.encode(record))

    def shared_file(self, record: SharedFile | int) -> None:
        """Writes a shared file, or the number of a forgotten one. A SharedFiles' observer."""
        if isinstance(record, SharedFile):
            self._shared_files[record.number] = record
            self._write(_SHARED, _encoder.encode(record))
        else:
            self._shared_files.pop(record, None)
            self._write(_SHARED_FREED, _encoder.encode(record))

    def _write(self, kind: int, payload: bytes) -> None:
        if self.broken:
            return
        try:
            write_all(self._file, _HEAD.pack(kind, len(payload)) + payload)
            self._size += _HEAD.size + len(payload)
            if self._size >= self._compact_at:
                self._compact()
        except OSError as error:
            self.broken = f"{self._path}: {error.strerror}"
        except Untrusted as error:
            self.broken = str(error)

    def _is_ours(self) -> bool:
        return os.path.samestat(os.stat(self._path), os.fstat(self._file))

    def _compact(self) -> None:
        if not self._is_ours():
            return
        whole = b"".join(
            _HEAD.pack(kind, len(payload)) + payload
            for kind, records in ((_SLOT, self._slots), (_SHARED, self._shared_files))
            for payload in map(_encoder.encode, records.values())
        )
        with suppress(FileNotFoundError):
            os.unlink(self._path + ".new")
        file = open_file(self._path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        write_all(file, whole)
        os.rename(self._path + ".new", self._path)
        os.close(self._file)
        self._file, self._size = file, len(whole)
        self._compact_at = max(COMPACT_AT, 2 * self._size)

    def close(self) -> None:
        """Removes the file: with its mount the kernel has forgotten the numbers. A file that stays was left
        by a killed process."""
        with suppress(OSError):
            if self._is_ours():
                os.unlink(self._path)
        os.close(self._file)
        self.broken = "closed"


def load(path: str) -> tuple[list[SlotRecord], list[SharedFile]]:
    """Returns the slots and the shared files in use at the end of the file, upper slots before lower ones.

    Raises OSError, Untrusted.
    """
    with open(open_file(path, os.O_RDONLY), "rb") as file:
        data = file.read()
    slots: dict[int, SlotRecord] = {}
    shared_files: dict[int, SharedFile] = {}
    at = 0
    while at + _HEAD.size <= len(data):
        kind, length = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
        if len(payload) < length:
            break
        try:
            if kind == _SLOT:
                slot = msgspec.msgpack.decode(payload, type=SlotRecord)
                slots[slot.slot] = slot
            elif kind == _SHARED:
                shared = msgspec.msgpack.decode(payload, type=SharedFile)
                shared_files[shared.number] = shared
            else:
                gone = msgspec.msgpack.decode(payload, type=int)
                (slots if kind == _FREED else shared_files).pop(gone, None)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break
    # A shared file that the kernel has forgotten may outlive its slot, whose number is allotted anew.
    held = [shared for shared in shared_files.values() if unpack(shared.number)[0] in slots]
    return list(slots.values()), held
