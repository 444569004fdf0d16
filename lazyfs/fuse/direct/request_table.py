"""The kernel's requests that have no answer yet, in memory that outlives the process.

If a daemon is killed, the requests that the kernel has handed to it are lost with it, and their callers would
wait for ever. So reader threads read requests into this memory, which costs a request nothing, and a request
that has to wait for objects gets a slot before its reader reads the next one. Whoever holds the memory and
the device (a successor, the keeper) finds each unanswered request here. Some of the requests found were
answered already: the kernel refuses a second answer with ENOENT, because it never uses a unique number again.
"""

import mmap
import os
import threading
import time
from contextlib import suppress
from sys import byteorder

import msgspec

from lazyfs.fuse.wire.protocol import IN_HEADER

BUFFER = 128 << 10
"""Bytes of the buffer for one request. The longest requests are batches of forgotten inodes, which fill any
buffer."""
STATE = 1 << 20
"""Bytes for what a successor needs beside the requests: the state, and four words (`lasting_words`)."""
SLOT = 512
"""Bytes of a slot: the time of arrival, then the request, then the arrival of the request that another
process has settled there. The longest that waits is a LOOKUP of 296 bytes."""
READERS = 7
"""The largest number of threads of a daemon that can have a buffer."""
SLOTS = 1 << 15
"""The number of the daemon's slots; the keeper has as many. Untouched ones take no memory."""

_DAEMON, _KEEPER = range(2)
_TOP = 2 * 8
_BUFFERS_AT = STATE
_SLOTS_AT = _BUFFERS_AT + (READERS + 1) * BUFFER
_SIZE = _SLOTS_AT + 2 * SLOTS * SLOT
OVERFLOW_AT = _SIZE
"""The offset from which on the memory is the journal's (`vfs.journal_overflow`)."""
_HEADER = IN_HEADER.size
_WORD = 8
MOST_REQUEST = SLOT - 2 * _WORD
"""The largest number of bytes of a request in a slot."""
_WORDS = 4
_WORDS_AT = STATE - _WORDS * _WORD
MOST_STATE = _WORDS_AT - _TOP - _WORD
"""The largest number of bytes of the state that a successor needs."""
NOWHERE = -1
"""The value of `slot` for a request that is in no slot."""


class Kept(msgspec.Struct, frozen=True):
    """An unanswered request."""

    slot: int
    """The request's slot; NOWHERE for a request that was found in a reader's buffer."""
    arrival: int
    """The time of arrival on time.monotonic_ns()'s clock; 0 if unknown."""
    request: bytes


class RequestTable:
    """The table as one process sees it. Thread-safe: each slot and each buffer has one writer, its owner.

    A process that has answered a request in another one's slot says so in a word of its own: it writes the
    request's arrival there (`settle`). Should the owner have put another request into the slot meanwhile,
    that one has another arrival, and stays.
    """

    def __init__(self, fd: int, *, keeper: bool = False) -> None:
        """`fd`: from `make`. `keeper`: enters requests into the keeper's slots instead of the daemon's."""
        self.fd = fd
        self._memory = mmap.mmap(fd, _SIZE)
        self._view = memoryview(self._memory)
        words = self._view[_SLOTS_AT:].cast("Q")
        self._arrivals = words[:: SLOT // _WORD]
        """For each slot, the time of arrival of its request; 0 if it never had one, or its owner has freed
        it."""
        self._settled = words[SLOT // _WORD - 1 :: SLOT // _WORD]
        """For each slot, the time of arrival of the request that another process settled there last."""
        self._side = _KEEPER if keeper else _DAEMON
        self._guard = threading.Lock()
        """Held while a slot is chosen: two reader threads may look for one at the same moment."""
        used = set(self._unsettled())
        self._free: list[int] = []
        """The slots that have been free before, the last freed one last."""
        first = self._side * SLOTS
        # One after the other, at need: a list of all slots would cost the daemon and the keeper 2 ms each.
        self._fresh = (slot for slot in range(first, first + SLOTS) if slot not in used)

    @staticmethod
    def make() -> int:
        """Returns the descriptor of an empty table."""
        fd = os.memfd_create("lazyfs-requests", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        return fd

    def buffer(self, reader: int) -> memoryview:
        """Returns the memory that a reader thread reads its requests into."""
        at = _BUFFERS_AT + reader * BUFFER
        return self._view[at : at + BUFFER]

    def keepers_buffer(self) -> memoryview:
        """Returns the memory that the keeper reads requests into."""
        return self.buffer(READERS)

    def enter(self, opcode: int, unique: int, number: int, payload: bytes) -> int:
        """Keeps a request that waits; returns its slot. Returns NOWHERE if the table is full: that request is
        lost if the process is killed."""
        length = _HEADER + len(payload)
        if length > MOST_REQUEST:
            return NOWHERE
        slot = self._free_slot()
        if slot == NOWHERE:
            return NOWHERE
        at = _SLOTS_AT + slot * SLOT
        header = IN_HEADER.pack(length, opcode, unique, number, 0, 0, 0, 0, 0)
        self._view[at + _WORD : at + _WORD + length] = header + payload
        self._arrivals[slot] = time.monotonic_ns()
        return slot

    def _free_slot(self) -> int:
        """Returns a slot that no other request gets; NOWHERE if there is none."""
        with self._guard:
            if self._free:
                return self._free.pop()
            slot = next(self._fresh, NOWHERE)
            if slot == NOWHERE:
                return self._settled_slot()
            top = self._side * _WORD
            if slot - self._side * SLOTS >= self._get(top):
                self._put(top, slot - self._side * SLOTS + 1)
            return slot

    def _settled_slot(self) -> int:
        """Returns a slot of the keeper's whose request the daemon has settled, and notes the others like it
        as free; NOWHERE if there is none. The daemon's slots all come back by `leave`: after the keeper has
        settled a request of a stopped daemon, the daemon's task still has the slot."""
        if self._side == _KEEPER:
            used = self._unsettled()
            self._free = [slot for slot in range(2 * SLOTS - 1, SLOTS - 1, -1) if slot not in used]
        return self._free.pop() if self._free else NOWHERE

    def leave(self, slot: int) -> None:
        """Frees the slot that `enter` returned: its request has an answer."""
        if slot != NOWHERE:
            self._arrivals[slot] = 0
            self._free.append(slot)

    def settle(self, kept: Kept) -> None:
        """Notes that a request which was found in the table has an answer."""
        if kept.slot // SLOTS == self._side:
            self.leave(kept.slot)
        elif kept.slot != NOWHERE:
            self._settled[kept.slot] = kept.arrival

    def kept_in_slots(self) -> list[Kept]:
        """Returns the requests in the slots of the daemon and in those of the keeper."""
        return [
            Kept(slot, arrival, self._request(_SLOTS_AT + slot * SLOT + _WORD, MOST_REQUEST))
            for slot, arrival in self._unsettled().items()
        ]

    def _unsettled(self) -> dict[int, int]:
        """Returns the slots whose requests have no answer, and the arrival of each."""
        found = {}
        for side in (_DAEMON, _KEEPER):
            first = side * SLOTS
            end = first + self._get(side * _WORD)
            words = zip(self._arrivals[first:end].tolist(), self._settled[first:end].tolist(), strict=True)
            for slot, (arrival, settled) in enumerate(words, first):
                if arrival and arrival != settled:
                    found[slot] = arrival
        return found

    def kept_in_buffers(self) -> list[Kept]:
        """Returns the request that each reader read last, whether answered or not."""
        found = []
        for reader in range(READERS + 1):
            request = self._request(_BUFFERS_AT + reader * BUFFER, BUFFER)
            if request:
                found.append(Kept(NOWHERE, 0, request))
        return found

    def clear_buffers(self) -> None:
        """Empties the buffers of the daemon's readers, once their requests are served. A FORGET that another
        successor found there too would be counted twice, and free a slot that the kernel still knows."""
        for reader in range(READERS):
            self.buffer(reader)[:4] = bytes(4)

    def close(self) -> None:
        """Gives up this process's view of the memory. The memory lives on while other processes have a
        descriptor of it."""
        for view in (self._arrivals, self._settled, self._view):
            view.release()
        with suppress(BufferError):  # a thread that did not end still has its buffer
            self._memory.close()
        os.close(self.fd)

    def _request(self, at: int, room: int) -> bytes:
        length = int.from_bytes(self._view[at : at + 4], byteorder)
        return bytes(self._view[at : at + length]) if _HEADER <= length <= room else b""

    def _get(self, at: int) -> int:
        return int.from_bytes(self._view[at : at + _WORD], byteorder)

    def _put(self, at: int, value: int) -> None:
        self._view[at : at + _WORD] = value.to_bytes(_WORD, byteorder)


def lasting_words(table: int) -> list[memoryview]:
    """Returns words (format "Q") of a mount's daemons that live as long as the table, 0 at first: the slot,
    the shared file and the block of shown numbers given out last, and the length of the journal's overflow.
    `table`: a descriptor of the table."""
    found = memoryview(mmap.mmap(table, STATE))[_WORDS_AT:].cast("Q")
    return [found[number : number + 1] for number in range(_WORDS)]


def read_state(table: int) -> bytes:
    """Returns the state that `keep_state` wrote last into a table; empty if there is none. `table`: a
    descriptor of the table."""
    length = int.from_bytes(os.pread(table, _WORD, _TOP), byteorder)
    return os.pread(table, length, _TOP + _WORD)


def keep_state(table: int, state: bytes) -> None:
    """Keeps the state that a successor needs. Raises ValueError if it is longer than MOST_STATE."""
    if len(state) > MOST_STATE:
        raise ValueError(f"a state of {len(state)} bytes, over {MOST_STATE}")
    os.pwrite(table, bytes(_WORD), _TOP)  # a process that is killed in between leaves no half state
    os.pwrite(table, state, _TOP + _WORD)
    os.pwrite(table, len(state).to_bytes(_WORD, byteorder), _TOP)
