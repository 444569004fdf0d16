"""A thread that reads the kernel's requests and answers those whose objects are at hand."""

import errno
import io
import logging
from struct import pack
from sys import byteorder

from lazyfs.core.errors import LazyfsError
from lazyfs.fuse.direct.channel import OVER, Channel
from lazyfs.fuse.direct.operations import NOTES, REFUSED, Call, Operations, Pieces
from lazyfs.fuse.direct.pending_requests import PendingRequests
from lazyfs.fuse.direct.request_table import RequestTable
from lazyfs.fuse.filesystem import DECODINGS, Filesystem
from lazyfs.fuse.wire import protocol, requests
from lazyfs.vfs.missing_objects import NOTHING, Need, NeedDecoding, NeedRepository

_HEADER = protocol.IN_HEADER.size
_ENTRY_HEAD = pack("=Ii", protocol.OUT_HEADER.size + protocol.ENTRY_OUT.size, 0)
"""The OUT_HEADER of an answer to LOOKUP, up to its unique number."""
_REFUSALS = {opcode: pack("=Ii", protocol.OUT_HEADER.size, -wrong) for opcode, wrong in REFUSED.items()}
"""The OUT_HEADER of each refusal, up to its unique number."""
_TAKEN = bytes(4)
"""Written over the length of a FORGET in this thread's buffer once its lookups are taken back: so no
successor that finds the request there takes them back again."""
_TRY_AGAIN = (errno.EINTR, errno.EAGAIN, errno.ENOENT)  # ENOENT: the request was given up before it was read

log = logging.getLogger(__name__)


class RequestReader:
    """The work of one reader thread; several threads may share a channel."""

    def __init__(
        self,
        filesystem: Filesystem,
        channel: Channel,
        operations: Operations,
        pending: PendingRequests,
        table: RequestTable,
        buffer: memoryview,
    ) -> None:
        """`buffer`: the memory, in the request table, that this thread reads requests into."""
        self._table = table
        self._buffer = buffer
        self._fs = filesystem
        self._channel = channel
        self._operations = operations
        self._pending = pending
        self._counters = filesystem.counters.part()

    def run(self) -> None:
        """Serves until the connection is gone. All attributes and globals are looked up once, before the
        loop: in the loop, each look-up would cost 2 us."""
        upcalls, names, refusals = self._counters.upcalls, protocol.OPCODE_NAMES, _REFUSALS
        unpack, lookup_opcode, entry_head = protocol.IN_HEADER_HEAD.unpack_from, protocol.LOOKUP, _ENTRY_HEAD
        lock, kept_under, slot_of = self._fs.lock, self._operations.kept_names.get, self._fs.tree.slots.get
        device = io.FileIO(self._channel.fd, "r+", closefd=False)
        # A request takes 0.3 us less with these than with os.readv and os.write.
        readinto, write = device.readinto, device.write
        view = self._buffer
        # A thread that is being killed may still take a request. The kernel can write it only into a page
        # that this process has touched before, and otherwise answers EIO. So the first page, which a LOOKUP
        # (296 bytes at most) or READ never leaves, is touched here.
        view[0] = view[0]
        upcalls["LOOKUP"] = 0
        while True:
            try:
                length = readinto(view)
            except OSError as error:
                if error.errno in _TRY_AGAIN:
                    continue
                if error.errno not in OVER:
                    log.exception("reading requests")
                return
            if not length:
                return
            if length < _HEADER:
                self._counters.malformed += 1
                continue
            told, opcode, unique, parent = unpack(view)
            if opcode == lookup_opcode and told == length:
                # Most requests are for a name that was answered before: answered here, without any call of
                # our own. No answer is kept for a payload that is not a name: `_serve` refuses it.
                with lock:
                    kept = kept_under(parent + view[_HEADER:length])
                    if kept is not None and kept[0]:
                        slot = slot_of(kept[0])
                        if slot is None:
                            kept = None
                        else:
                            slot.count += 1
                if kept is not None:
                    upcalls["LOOKUP"] += 1
                    try:
                        write(entry_head + unique + kept[1])
                    except OSError as error:
                        self._channel.unwritten(error)
                    continue
            name = names.get(opcode, "UNKNOWN")
            upcalls[name] = upcalls.get(name, 0) + 1
            if opcode in refusals:
                # Also without any call: Python asks of every file that it imports if it is a terminal, and
                # the kernel passes each such IOCTL on.
                try:
                    write(refusals[opcode] + unique)
                except OSError as error:
                    self._channel.unwritten(error)
                continue
            # A length other than the one read leaves nothing to parse: a request that needs a payload fails.
            payload = bytes(view[_HEADER:length]) if told == length else b""
            self._serve(opcode, int.from_bytes(unique, byteorder), int.from_bytes(parent, byteorder), payload)

    def serve_again(self, request: bytes) -> None:
        """Serves a request that another process, or another thread, has read."""
        _, opcode, unique, number, *_ = protocol.IN_HEADER.unpack_from(request)
        if opcode != protocol.INIT and not self._pending.waits(unique):
            self._serve(opcode, unique, number, request[_HEADER:])

    def _serve(self, opcode: int, unique: int, number: int, payload: bytes) -> None:
        """Serves one request, whatever its content. Raises nothing: the request gets an errno instead."""
        try:
            if opcode in NOTES:
                self._take_note(opcode, unique, number, payload)
            else:
                self._answer(opcode, unique, number, payload)
        except OSError as error:
            self._channel.refuse(unique, error.errno or errno.EIO)
        except LazyfsError as error:
            self._channel.refuse(unique, self._fs.fault(error).errno or errno.EIO)
        except requests.Malformed as error:
            self._counters.malformed += 1
            log.warning("malformed request %d: %s", opcode, error)
            self._channel.refuse(unique, errno.EIO)
        except Exception as bug:  # noqa: BLE001 (logged by `bug`; one in one answer must not end all others)
            self._channel.refuse(unique, self._fs.bug(bug).errno or errno.EIO)

    def _answer(self, opcode: int, unique: int, number: int, payload: bytes) -> None:
        call = self._operations.call(opcode, number, payload)
        try:
            pieces = self._called(call)
        except (Need, NeedRepository) as need:
            slot = self._table.enter(opcode, unique, number, payload)
            self._pending.start(unique, call, need.with_traceback(None), slot)
            return
        if opcode == protocol.READ:
            self._counters.read_bytes += sum(map(len, pieces))
        self._channel.reply(unique, pieces)

    def _called(self, call: Call) -> Pieces:
        """Calls `call`. Decodes large catalogs here as long as there is no event loop to do so: to load it
        only for this would take longer. Raises what `call` raises."""
        for _ in range(DECODINGS):
            try:
                return call(NOTHING)
            except NeedDecoding as need:
                if self._pending.has_loop:
                    raise
                keep = need.decode()
                with self._fs.lock:
                    keep()
        return call(NOTHING)

    def _take_note(self, opcode: int, unique: int, number: int, payload: bytes) -> None:
        """Handles a request that asks for no data: FORGET, BATCH_FORGET, INTERRUPT or DESTROY."""
        if opcode == protocol.DESTROY:
            self._channel.refuse(unique, 0)
        elif opcode == protocol.INTERRUPT:
            if not self._pending.interrupt(requests.interrupted(payload)):
                # Another thread answers it, or is about to make it wait: the kernel interrupts again if
                # needed.
                self._channel.refuse(unique, errno.EAGAIN)
        else:
            forget = opcode == protocol.FORGET
            pairs = [(number, requests.forget(payload))] if forget else requests.forgets(payload)
            with self._fs.lock:
                self._operations.forget(pairs)
                self._buffer[:4] = _TAKEN
