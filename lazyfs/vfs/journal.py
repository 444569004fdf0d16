"""Which numbers were given out, on disk: a new process can answer for those of one that died.

An append-only file of records: kind (u8), length (u32), msgpack. A slot allotted or changed, a slot freed, a
shared file, a shared file forgotten. What a torn end leaves unreadable was never answered to the kernel, for
a record is written before the answer that needs it. No fsync: what must survive is the process, not the
machine, whose kernel would have forgotten the numbers too.
"""

import os
import struct

import msgspec

from lazyfs.vfs.inode_numbers import unpack
from lazyfs.vfs.shared_files import Copy
from lazyfs.vfs.slots import Place

COMPACT_AT = 1 << 20
"""Bytes after which the file is written anew without what has been freed, if that halves it."""

_HEAD = struct.Struct("<BI")
_PLACE, _FREED, _COPY, _COPY_FREED = range(4)
_encoder = msgspec.msgpack.Encoder()


class Journal:
    """Writes the file of one mount. Never raises for a failing disk: the mount goes on, `broken` says why."""

    def __init__(self, path: str) -> None:
        """Begins anew: a fresh mount's kernel knows no numbers. Raises OSError."""
        self._path = path
        self._places: dict[int, Place] = {}
        self._copies: dict[int, Copy] = {}
        self._size = 0
        self._compact_at = COMPACT_AT
        self.broken = ""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def slot(self, record: Place | int) -> None:
        """A slot's place, or the number of a slot that was freed; for SlotTable."""
        if isinstance(record, Place):
            self._places[record.slot] = record
            self._write(_PLACE, _encoder.encode(record))
        else:
            self._places.pop(record, None)
            self._write(_FREED, _encoder.encode(record))

    def copy(self, record: Copy | int) -> None:
        """A shared file, or the number of one that was forgotten; for Copies."""
        if isinstance(record, Copy):
            self._copies[record.number] = record
            self._write(_COPY, _encoder.encode(record))
        else:
            self._copies.pop(record, None)
            self._write(_COPY_FREED, _encoder.encode(record))

    def _write(self, kind: int, payload: bytes) -> None:
        if self.broken:
            return
        try:
            self._size += os.write(self._file, _HEAD.pack(kind, len(payload)) + payload)
            if self._size >= self._compact_at:
                self._compact()
        except OSError as error:
            self.broken = f"{self._path}: {error.strerror}"

    def _compact(self) -> None:
        whole = b"".join(
            _HEAD.pack(kind, len(payload)) + payload
            for kind, records in ((_PLACE, self._places), (_COPY, self._copies))
            for payload in map(_encoder.encode, records.values())
        )
        file = os.open(self._path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        view = memoryview(whole)
        while view:
            view = view[os.write(file, view) :]
        os.rename(self._path + ".new", self._path)
        os.close(self._file)
        self._file, self._size = file, len(whole)
        self._compact_at = max(COMPACT_AT, 2 * self._size)

    def close(self) -> None:
        """Lets go of the file; it stays for whoever comes next."""
        os.close(self._file)
        self.broken = "closed"


def load(path: str) -> tuple[list[Place], list[Copy]]:
    """The slots, those above before those below, and the shared files in use at the end of the file.

    Raises OSError.
    """
    with open(path, "rb") as file:
        data = file.read()
    places: dict[int, Place] = {}
    copies: dict[int, Copy] = {}
    at = 0
    while at + _HEAD.size <= len(data):
        kind, length = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
        if len(payload) < length:
            break
        try:
            if kind == _PLACE:
                place = msgspec.msgpack.decode(payload, type=Place)
                places[place.slot] = place
            elif kind == _COPY:
                copy = msgspec.msgpack.decode(payload, type=Copy)
                copies[copy.number] = copy
            else:
                gone = msgspec.msgpack.decode(payload, type=int)
                (places if kind == _FREED else copies).pop(gone, None)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break
    # A shared file that waits to be asked for again may outlive its slot, whose number is allotted anew.
    held = [copy for copy in copies.values() if unpack(copy.number)[0] in places]
    return list(places.values()), held
