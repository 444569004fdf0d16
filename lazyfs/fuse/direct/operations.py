"""From requests of the direct session to the bytes that answer them.

`Answers` says for each opcode what is to be asked of the tree; it neither touches the device nor waits.
What an answer gives out is held in the tree in the same call, under the filesystem's lock.
"""

import errno
import os
import sys
from collections.abc import Callable

from lazyfs.fuse.direct.kept_answers import COPY, MISSING, Packed, Page, key
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import statfs
from lazyfs.fuse.wire import protocol as p
from lazyfs.fuse.wire import replies, requests
from lazyfs.vfs.attributes import Attributes
from lazyfs.vfs.missing_objects import NOTHING, Brought
from lazyfs.vfs.operator_xattrs import get_xattr, list_xattrs

Pieces = list[bytes]
"""An answer behind its header."""
Call = Callable[[Brought], Pieces]
"""Asks the tree; under the filesystem's lock. Raises Need for what is not here, or OSError."""
Plan = Callable[["Answers", int, bytes], Call]


class Answers:
    """What the kernel is told. One for a session; `lookup` and the calls of `plan` run under the lock."""

    def __init__(self, filesystem: Filesystem, packed: Packed) -> None:
        self._fs = filesystem
        self._tree = filesystem.tree
        self._packed = packed
        self.kept = packed.names
        """The answers to LOOKUP that are kept, for a Reader to look at first."""
        self._slot_of = filesystem.tree.slots.get

    def plan(self, opcode: int, number: int, payload: bytes) -> Call:
        """What to ask for this request. Raises Malformed, or OSError for what is answered by an errno."""
        found = _PLANS.get(opcode)
        if found is not None:
            return found(self, number, payload)
        wrong = errno.EROFS if opcode in p.MODIFYING else errno.ENOSYS
        raise OSError(wrong, os.strerror(wrong))

    def lookup(self, parent: int, name: bytes, brought: Brought = NOTHING) -> bytes:
        """The answer to LOOKUP, from what is kept if that is still right (a Reader looks there first)."""
        at, body = self._packed.names.get(key(parent, name), (COPY, b""))
        if at == MISSING:
            return body
        slot = self._slot_of(at)
        if slot is not None:
            slot.count += 1  # what tree.hold does for numbers that are no copies
            return body
        if body and at == COPY:
            number = int.from_bytes(body[:8], sys.byteorder)
            if self._tree.copies.get(number) is not None and number >> 32 in self._tree.slots:
                self._tree.hold(number)
                return body
        return self._look_up(parent, name, brought)

    def _look_up(self, parent: int, name: bytes, brought: Brought) -> bytes:
        found = self._tree.lookup(parent, name, brought)
        if found is None:
            self._packed.keep_name(parent, name, (MISSING, replies.MISSING_ENTRY))
            return replies.MISSING_ENTRY
        body = replies.entry(found)
        self._tree.hold(found.number)
        at = COPY if self._tree.copies.get(found.number) is not None else found.number >> 32
        self._packed.keep_name(parent, name, (at, body))
        return body

    def read_at_hand(self, number: int, payload: bytes) -> Pieces:
        """The answer to READ from the local cache: the lock is held while the parts are found, not while
        they are read. Raises Need if a part is missing."""
        offset, size = requests.range_of(payload)
        return self._fs.read_at_hand(number, offset, size)

    def forget(self, pairs: list[tuple[int, int]]) -> None:
        """The kernel gives lookups back; under the lock."""
        copies, tree = self._tree.copies, self._tree
        of_slot: dict[int, int] = {}
        for number, lookups in pairs:
            if copies.get(number) is not None:
                tree.forget(number, lookups)
            elif number != p.ROOT_ID:
                slot = number >> 32
                of_slot[slot] = of_slot.get(slot, 0) + lookups
        for slot, lookups in of_slot.items():
            tree.forget(slot << 32, lookups)

    # one plan for each opcode

    def _plan_lookup(self, number: int, payload: bytes) -> Call:
        name = requests.name(payload)
        return lambda brought: [self.lookup(number, name, brought)]

    def _plan_getattr(self, number: int, _: bytes) -> Call:
        return lambda brought: [replies.attr(self._tree.getattr(number, brought))]

    def _plan_readlink(self, number: int, _: bytes) -> Call:
        return lambda brought: [self._tree.readlink(number, brought)]

    def _plan_read(self, number: int, payload: bytes) -> Call:
        offset, size = requests.range_of(payload)
        return lambda brought: self._fs.read(number, offset, size, brought)

    def _plan_statfs(self, _: int, __: bytes) -> Call:
        return lambda _: [replies.statfs(statfs(self._tree, self._fs.cache_space()))]

    def _plan_getxattr(self, number: int, payload: bytes) -> Call:
        room, name = requests.xattr_size(payload), requests.xattr_name(payload)

        def call(brought: Brought) -> Pieces:
            value = get_xattr(self._tree, number, name, brought)
            if value is None:
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
            return [replies.xattr(value, room)]

        return call

    def _plan_listxattr(self, number: int, payload: bytes) -> Call:
        room = requests.xattr_size(payload)

        def call(brought: Brought) -> Pieces:
            names = list_xattrs(self._tree, number, brought)
            return [replies.xattr(b"".join(name + b"\0" for name in names), room)]

        return call

    def _plan_readdir(self, number: int, payload: bytes) -> Call:
        offset, size = requests.range_of(payload)

        def call(brought: Brought) -> Pieces:
            lines = self._dots(number, offset, brought)
            for after, (name, found) in enumerate(
                self._tree.listing(number, max(offset - 2, 0), brought), max(offset, 2) + 1
            ):
                lines.append(replies.dirent(found.number, found.mode, after, name))
                if len(lines) * 32 > size:
                    break
            return [b"".join(_that_fit(lines, size))]

        return call

    def _plan_readdirplus(self, number: int, payload: bytes) -> Call:
        offset, size = requests.range_of(payload)
        return lambda brought: [self._page(number, offset, size, brought)]

    # directories

    def _page(self, number: int, offset: int, size: int, brought: Brought) -> bytes:
        kept = self._packed.page(number, offset, size)
        if kept is None or not self._still_right(kept):
            kept = self._make_page(number, offset, size, brought)
            self._packed.keep_page(number, offset, size, kept)
        for held, lookups in kept.slots:
            self._tree.hold(held, lookups)
        for held in kept.copies:
            self._tree.hold(held)
        return kept.body

    def _still_right(self, page: Page) -> bool:
        slots, copies = self._tree.slots, self._tree.copies
        return all(number >> 32 in slots for number, _ in page.slots) and all(
            copies.get(number) is not None and number >> 32 in slots for number in page.copies
        )

    def _make_page(self, number: int, offset: int, size: int, brought: Brought) -> Page:
        """As many lines as fit, with the lookups they count as."""
        lines = [replies.NO_ENTRY + line for line in self._dots(number, offset, brought)]
        room = size - sum(map(len, lines))
        slots: dict[int, list[int]] = {}
        copies = []
        known = self._tree.copies
        after = max(offset, 2)
        for name, found in self._tree.listing(number, after - 2, brought):
            after += 1
            line = replies.direntplus(found, after, name)
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
            if known.get(found.number) is not None:
                copies.append(found.number)
            else:
                slots.setdefault(found.number >> 32, [found.number, 0])[1] += 1
        held = tuple((one, lookups) for one, lookups in slots.values())
        return Page(b"".join(lines), held, tuple(copies))

    def _dots(self, number: int, offset: int, brought: Brought) -> Pieces:
        """The lines `.` and `..`, as far as they are asked for."""
        lines = []
        if offset < 1:
            own: Attributes = self._tree.getattr(number, brought)
            lines.append(replies.dirent(own.number, own.mode, 1, b"."))
        if offset < 2:
            above = self._tree.parent(number, brought)
            lines.append(replies.dirent(above, 0o040000, 2, b".."))
        return lines


def _that_fit(lines: Pieces, size: int) -> Pieces:
    for position, line in enumerate(lines):
        size -= len(line)
        if size < 0:
            return lines[:position]
    return lines


_PLANS: dict[int, Plan] = {
    p.LOOKUP: Answers._plan_lookup,
    p.GETATTR: Answers._plan_getattr,
    p.READLINK: Answers._plan_readlink,
    p.READ: Answers._plan_read,
    p.STATFS: Answers._plan_statfs,
    p.GETXATTR: Answers._plan_getxattr,
    p.LISTXATTR: Answers._plan_listxattr,
    p.READDIR: Answers._plan_readdir,
    p.READDIRPLUS: Answers._plan_readdirplus,
}
"""Everything else is refused: OPEN and OPENDIR with ENOSYS, so that the kernel keeps pages and listings and
does all later opens itself; ACCESS, FLUSH, LSEEK, STATX and IOCTL too, so that it does those itself."""
