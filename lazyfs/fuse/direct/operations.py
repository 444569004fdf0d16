"""Makes the bytes that answer the requests of the direct session.

For each opcode, `Operations` calls one method of the tree; it neither touches the device nor waits. A call
whose answer counts as a lookup of an inode number also counts that lookup in the tree, under the filesystem's
lock.
"""

import errno
import os
import sys
from collections.abc import Callable

from lazyfs.core.errors import UsageError
from lazyfs.fuse import filesystem as fs
from lazyfs.fuse.direct.kept_answers import MISSING, SHARED, KeptAnswers, KeptPage, key
from lazyfs.fuse.file_read import FileRead
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import statfs
from lazyfs.fuse.wire import handshake, replies, requests
from lazyfs.fuse.wire import protocol as p
from lazyfs.vfs.attributes import Attributes
from lazyfs.vfs.missing_objects import NOTHING, Fetched
from lazyfs.vfs.operator_xattrs import get_xattr, list_xattrs

Pieces = list[bytes]
"""The pieces of an answer, without its header."""
Call = fs.Call[Pieces]
Operation = Callable[["Operations", int, bytes], Call]
"""A method that returns the call which answers a request, given the request's inode number and payload."""


class Operations:
    """Makes the answers to the kernel's requests. One for each session."""

    def __init__(self, filesystem: Filesystem, kept: KeptAnswers) -> None:
        self._fs = filesystem
        self._tree = filesystem.tree
        self._kept = kept
        self.kept_names = kept.names
        """The answers to LOOKUP that are kept, for a RequestReader to look at first."""
        self._slot_of = filesystem.tree.slots.get

    def call(self, opcode: int, number: int, payload: bytes) -> Call:
        """Returns the call that answers a request. Raises Malformed, or OSError for a refused request."""
        found = _LOCKED.get(opcode)
        if found is not None:
            return self._fs.locked(found(self, number, payload))
        if opcode == p.READ:
            offset, size = requests.range_of(payload)
            return FileRead(self._fs, number, offset, size)
        wrong = REFUSED.get(opcode, errno.ENOSYS)
        raise OSError(wrong, os.strerror(wrong))

    def lookup(self, parent: int, name: bytes, fetched: Fetched = NOTHING) -> bytes:
        """Returns the answer to LOOKUP: the kept one, if it is still right, or else a new one. The caller
        holds the lock."""
        at, body = self._kept.names.get(key(parent, name), (SHARED, b""))
        if at == MISSING:
            return body
        slot = self._slot_of(at)
        if slot is not None:
            slot.count += 1  # as tree.hold does for numbers other than shared files'
            return body
        if body and at == SHARED:
            number = int.from_bytes(body[:8], sys.byteorder)
            if self._tree.shared_files.get(number) is not None and number >> 32 in self._tree.slots:
                self._tree.hold(number)
                return body
        return self._look_up(parent, name, fetched)

    def _look_up(self, parent: int, name: bytes, fetched: Fetched) -> bytes:
        found = self._tree.lookup(parent, name, fetched)
        if found is None:
            self._kept.keep_name(parent, name, (MISSING, replies.MISSING_ENTRY))
            return replies.MISSING_ENTRY
        body = replies.entry(found)
        self._tree.hold(found.number)
        at = SHARED if self._tree.shared_files.get(found.number) is not None else found.number >> 32
        self._kept.keep_name(parent, name, (at, body))
        return body

    def forget(self, pairs: list[tuple[int, int]]) -> None:
        """Subtracts lookups that the kernel gives back: (inode number, lookups) pairs. The caller holds the
        lock."""
        shared_files, tree = self._tree.shared_files, self._tree
        of_slot: dict[int, int] = {}
        for number, lookups in pairs:
            if shared_files.get(number) is not None:
                tree.forget(number, lookups)
            elif number != p.ROOT_ID:
                slot = number >> 32
                of_slot[slot] = of_slot.get(slot, 0) + lookups
        for slot, lookups in of_slot.items():
            tree.forget(slot << 32, lookups)

    # one operation for each opcode that is answered under the lock

    def _lookup(self, number: int, payload: bytes) -> Call:
        name = requests.name(payload)
        return lambda fetched: [self.lookup(number, name, fetched)]

    def _getattr(self, number: int, _: bytes) -> Call:
        return lambda fetched: [replies.attr(self._tree.getattr(number, fetched))]

    def _readlink(self, number: int, _: bytes) -> Call:
        return lambda fetched: [self._tree.readlink(number, fetched)]

    def _statfs(self, _: int, __: bytes) -> Call:
        return lambda _: [replies.statfs(statfs(self._tree, self._fs.cache_space()))]

    def _getxattr(self, number: int, payload: bytes) -> Call:
        room, name = requests.xattr_size(payload), requests.xattr_name(payload)

        def call(fetched: Fetched) -> Pieces:
            value = get_xattr(self._tree, number, name, fetched)
            if value is None:
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
            return [replies.xattr(value, room)]

        return call

    def _listxattr(self, number: int, payload: bytes) -> Call:
        room = requests.xattr_size(payload)

        def call(fetched: Fetched) -> Pieces:
            names = list_xattrs(self._tree, number, fetched)
            return [replies.xattr(b"".join(name + b"\0" for name in names), room)]

        return call

    def _readdir(self, number: int, payload: bytes) -> Call:
        offset, size = requests.range_of(payload)

        def call(fetched: Fetched) -> Pieces:
            lines = self._dots(number, offset, fetched)
            for after, (name, found) in enumerate(
                self._tree.listing(number, max(offset - 2, 0), fetched), max(offset, 2) + 1
            ):
                lines.append(replies.dirent(found.shown, found.mode, after, name))
                if len(lines) * 32 > size:
                    break
            return [b"".join(_that_fit(lines, size))]

        return call

    def _readdirplus(self, number: int, payload: bytes) -> Call:
        offset, size = requests.range_of(payload)
        return lambda fetched: [self._page(number, offset, size, fetched)]

    # directories

    def _page(self, number: int, offset: int, size: int, fetched: Fetched) -> bytes:
        page = self._kept.page(number, offset, size)
        if page is None or not self._still_right(page):
            page = self._make_page(number, offset, size, fetched)
            self._kept.keep_page(number, offset, size, page)
        for held, lookups in page.slots:
            self._tree.hold(held, lookups)
        for held in page.shared_files:
            self._tree.hold(held)
        return page.body

    def _still_right(self, page: KeptPage) -> bool:
        slots, shared_files = self._tree.slots, self._tree.shared_files
        return all(number >> 32 in slots for number, _ in page.slots) and all(
            shared_files.get(number) is not None and number >> 32 in slots for number in page.shared_files
        )

    def _make_page(self, number: int, offset: int, size: int, fetched: Fetched) -> KeptPage:
        """Returns a page of READDIRPLUS with as many lines as fit into `size` bytes, and the lookups that
        these lines count as."""
        lines = [replies.NO_ENTRY + line for line in self._dots(number, offset, fetched)]
        room = size - sum(map(len, lines))
        slots: dict[int, list[int]] = {}
        shared_files = []
        known = self._tree.shared_files
        after = max(offset, 2)
        for name, found in self._tree.listing(number, after - 2, fetched):
            after += 1
            line = replies.direntplus(found, after, name)
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
            if known.get(found.number) is not None:
                shared_files.append(found.number)
            else:
                slots.setdefault(found.number >> 32, [found.number, 0])[1] += 1
        held = tuple((one, lookups) for one, lookups in slots.values())
        return KeptPage(b"".join(lines), held, tuple(shared_files))

    def _dots(self, number: int, offset: int, fetched: Fetched) -> Pieces:
        """Returns the lines `.` and `..`, as far as the request's offset asks for them."""
        lines = []
        if offset < 1:
            own: Attributes = self._tree.getattr(number, fetched)
            lines.append(replies.dirent(own.shown, own.mode, 1, b"."))
        if offset < 2:
            above = self._tree.shown_number(self._tree.parent(number, fetched))
            lines.append(replies.dirent(above, 0o040000, 2, b".."))
        return lines


def _that_fit(lines: Pieces, size: int) -> Pieces:
    for position, line in enumerate(lines):
        size -= len(line)
        if size < 0:
            return lines[:position]
    return lines


def check_promises(init: bytes, told: tuple[int, ...]) -> None:
    """Checks that this version keeps to what an earlier process has told the kernel: its reply to INIT, and
    the opcodes that it answers. Raises UsageError."""
    handshake.check_continuation(init)
    if told != answered():
        raise UsageError("the kernel was told of other operations than this version has")


def answered() -> tuple[int, ...]:
    """Returns the opcodes that this session answers, in rising order."""
    return tuple(sorted({*_LOCKED, p.READ}))


_LOCKED: dict[int, Operation] = {
    p.LOOKUP: Operations._lookup,
    p.GETATTR: Operations._getattr,
    p.READLINK: Operations._readlink,
    p.STATFS: Operations._statfs,
    p.GETXATTR: Operations._getxattr,
    p.LISTXATTR: Operations._listxattr,
    p.READDIR: Operations._readdir,
    p.READDIRPLUS: Operations._readdirplus,
}
"""The requests that are answered under the lock."""

NOTES = frozenset((p.FORGET, p.BATCH_FORGET, p.INTERRUPT, p.DESTROY))
"""The requests that ask for no data."""

REFUSED: dict[int, int] = {
    opcode: errno.EROFS if opcode in p.MODIFYING else errno.ENOSYS
    for opcode in p.OPCODE_NAMES
    if opcode not in {*_LOCKED, *NOTES, p.READ}
}
"""The requests that are always refused, and the errno. OPEN and OPENDIR get ENOSYS, which tells the kernel to
keep pages and listings and to do all later opens itself. After ENOSYS to ACCESS, FLUSH, LSEEK and STATX the
kernel does these itself too. After ENOSYS to IOCTL the program gets ENOTTY, and the kernel sends later IOCTLs
all the same."""
