"""The session that speaks the kernel's protocol on /dev/fuse itself.

Reader threads take the kernel's requests. If the objects of a request are at hand, the thread answers it at
once: no event loop, no task, no coroutine. Any other request goes to trio with its missing objects, as a task
that fetches them and writes the answer, while the threads go on reading. So the threads may begin before trio
is loaded (`begin`): the other requests wait until `serve`.
"""

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from lazyfs.core.errors import UsageError
from lazyfs.fuse import device
from lazyfs.fuse.direct.channel import Channel
from lazyfs.fuse.direct.kept_answers import KeptAnswers
from lazyfs.fuse.direct.operations import Operations, answered, check_promises
from lazyfs.fuse.direct.pending_requests import PendingRequests
from lazyfs.fuse.direct.reader import RequestReader
from lazyfs.fuse.direct.request_table import SLOTS, Kept, RequestTable
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import HeldMount, MountOptions
from lazyfs.fuse.wire import handshake, protocol, replies
from lazyfs.system import mountpoint as points

if TYPE_CHECKING:
    import trio

log = logging.getLogger(__name__)

READERS = 2
"""Number of threads that read requests. The second answers while the first waits for the local disk."""
FIRST_REQUEST = 10_000
"""Milliseconds that the kernel may take to send INIT."""
JOIN = 5.0
"""Seconds to wait until a reader thread has seen that the mount is gone."""


class DirectSession:
    """The session that serves a mount over /dev/fuse itself. Implements `Session`."""

    kind = "direct"

    def __init__(
        self,
        filesystem: Filesystem,
        mountpoint: str,
        options: MountOptions,
        *,
        readers: int = READERS,
        taken: HeldMount | None = None,
        table: int | None = None,
    ) -> None:
        """Makes a mount, or takes over the mount that another process has made (`taken`). The descriptors of
        `taken` are this session's from now on, and so is `table`, the table of requests of a mount that is
        made (by default a new one). `mountpoint`: a path as the kernel lists it.

        Raises UsageError if the mount is refused, if the kernel is too old for this session, or if this
        version cannot keep to what the other process has promised the kernel.
        """
        if taken is not None:
            check_promises(taken.init, taken.answered)
            table = taken.table
        self._fs = filesystem
        self._readers = readers
        self._kept = KeptAnswers()
        self._operations = Operations(filesystem, self._kept)
        self._channel = Channel(taken.device if taken else device.mount(mountpoint, options))
        self._table = RequestTable(RequestTable.make() if table is None else table)
        self._pending = PendingRequests(filesystem, self._channel, self._table)
        self._taken = taken is not None
        self._init = taken.init if taken else b""
        self._threads: list[threading.Thread] = []
        self._ended: trio.Event | None = None
        """Set when a reader thread has ended; None until `serve` is called."""
        self._mount = points.find(mountpoint)
        if taken:
            return
        try:
            self._shake_hands()
        except BaseException:
            self.unmount()
            os.close(self._channel.fd)
            self._table.close()
            raise
        if self._mount:
            device.raise_read_ahead(self._mount)

    def _shake_hands(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fd, select.POLLIN)
        if not poll.poll(FIRST_REQUEST):
            raise UsageError("the kernel sends no INIT: mount with --fuse pyfuse3")
        request = os.read(self._channel.fd, protocol.MIN_READ_BUFFER)
        _, opcode, unique, *_ = protocol.IN_HEADER.unpack_from(request)
        if opcode != protocol.INIT:
            raise UsageError(f"the kernel begins with request {opcode}: mount with --fuse pyfuse3")
        self._init = handshake.init_reply(request[protocol.IN_HEADER.size :])
        self._channel.reply(unique, [self._init])

    def begin(self, needs_loop: Callable[[], object]) -> bool:
        self._pending.needs_loop = needs_loop
        self._start_readers()
        return True

    def _start_readers(self) -> None:
        """Starts the reader threads, unless they run already."""
        if self._taken:
            self._taken = False
            self._serve_again([*self._table.kept_in_buffers(), *self._table.kept_in_slots()])
            self._table.clear_buffers()
        while len(self._threads) < self._readers:
            number = len(self._threads)
            thread = threading.Thread(target=self._read, args=[number], name=f"fuse {number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def held(self) -> HeldMount:
        return HeldMount(self._channel.fd, self._table.fd, self._init, answered())

    def serve_kept(self) -> None:
        self._serve_again([kept for kept in self._table.kept_in_slots() if kept.slot >= SLOTS])

    def _serve_again(self, requests: list[Kept]) -> None:
        reader = self._reader(0)
        for kept in requests:
            reader.serve_again(kept.request)
            self._table.settle(kept)

    def _reader(self, number: int) -> RequestReader:
        return RequestReader(
            self._fs, self._channel, self._operations, self._pending, self._table, self._table.buffer(number)
        )

    async def serve(self) -> None:
        import trio

        self._ended = ended = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                try:
                    self._pending.attach(nursery)
                    self._start_readers()
                    await ended.wait()
                finally:
                    self._pending.close()
                nursery.cancel_scope.cancel()
        finally:
            # After the end of every task: a late answer would go to the next file with this descriptor.
            self.close()

    def close(self) -> None:
        """Unmounts and ends the reader threads."""
        self.unmount()
        self._join()

    def _read(self, number: int) -> None:
        """Does the work of one reader thread. `number`: the thread's number."""
        ran_out = False
        try:
            while not ran_out:
                try:
                    self._reader(number).run()
                    ran_out = True
                except Exception:  # one request has no answer; the thread goes on with the next
                    log.exception("reader thread")
        finally:
            self._pending.soon(self._reader_ended)

    def _reader_ended(self) -> None:
        assert self._ended is not None
        self._ended.set()

    def _join(self) -> None:
        """Waits for the threads, which the unmount has woken: the connection is gone."""
        for thread in self._threads:
            thread.join(JOIN)
        if self._channel.fd >= 0 and not any(thread.is_alive() for thread in self._threads):
            os.close(self._channel.fd)
            self._channel.fd = -1
            self._table.close()

    def unmount(self) -> None:
        if self._mount:
            device.abort(self._mount, self._channel.fd)

    def bound_answers(self, limit: int) -> None:
        self._kept.resize(limit)

    def forget_answers(self, folders: set[int]) -> None:
        self._kept.drop(folders)

    def forget_inode(self, number: int) -> None:
        self._channel.notify(replies.inval_inode(number))
        self._fs.counters.notified += 1

    def forget_entry(self, parent: int, name: bytes) -> None:
        self._channel.notify(replies.inval_entry(parent, name))
        self._fs.counters.notified += 1
