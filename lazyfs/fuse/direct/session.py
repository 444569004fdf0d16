"""The session that speaks the kernel's protocol on /dev/fuse itself.

Reader threads take the kernel's requests. If the objects of a request are at hand, the thread answers it at
once: no event loop, no task, no coroutine. Any other request goes to trio with its missing objects, as a task
that fetches them and writes the answer, while the threads go on reading.
"""

import logging
import os
import select
import threading

import trio

from lazyfs.core.errors import UsageError
from lazyfs.fuse import device
from lazyfs.fuse.direct.channel import Channel
from lazyfs.fuse.direct.kept_answers import KeptAnswers
from lazyfs.fuse.direct.operations import Operations
from lazyfs.fuse.direct.pending_requests import PendingRequests
from lazyfs.fuse.direct.reader import BUFFER, RequestReader
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import MountOptions
from lazyfs.fuse.wire import handshake, protocol, replies
from lazyfs.system import mountpoint as points

log = logging.getLogger(__name__)

READERS = 2
"""Threads that read requests. A second one answers while the first waits for the local disk."""
FIRST_REQUEST = 10_000
"""Milliseconds that the kernel may take to send INIT."""
JOIN = 5.0
"""Seconds for a reader thread to see that the mount is gone."""


class DirectSession:
    """Implements `Session`."""

    kind = "direct"

    def __init__(
        self, filesystem: Filesystem, mountpoint: str, options: MountOptions, *, readers: int = READERS
    ) -> None:
        """Mounts; raises UsageError if the mount is refused, or the kernel is too old for this session."""
        self._fs = filesystem
        self._readers = readers
        self._kept = KeptAnswers()
        self._operations = Operations(filesystem, self._kept)
        self._channel = Channel(device.mount(mountpoint, options))
        self._mount = points.find(points.absolute(mountpoint))
        try:
            self._shake_hands()
        except BaseException:
            self.unmount()
            os.close(self._channel.fd)
            raise
        if self._mount:
            device.raise_read_ahead(self._mount)

    def _shake_hands(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fd, select.POLLIN)
        if not poll.poll(FIRST_REQUEST):
            raise UsageError("the kernel sends no INIT: mount with --fuse pyfuse3")
        request = os.read(self._channel.fd, BUFFER)
        _, opcode, unique, *_ = protocol.IN_HEADER.unpack_from(request)
        if opcode != protocol.INIT:
            raise UsageError(f"the kernel begins with request {opcode}: mount with --fuse pyfuse3")
        self._channel.reply(unique, [handshake.init_reply(request[protocol.IN_HEADER.size :])])

    async def serve(self) -> None:
        ended = trio.Event()
        threads: list[threading.Thread] = []
        try:
            async with trio.open_nursery() as nursery:
                pending = PendingRequests(self._fs, self._channel, nursery)
                try:
                    threads = [self._start_reader(i, pending, ended) for i in range(self._readers)]
                    await ended.wait()
                finally:
                    pending.close()
                nursery.cancel_scope.cancel()
        finally:
            # After the end of every task: a late answer would go to the next file with this descriptor.
            self.unmount()
            self._join(threads)

    def _start_reader(self, index: int, pending: PendingRequests, ended: trio.Event) -> threading.Thread:
        def read() -> None:
            ran_out = False
            try:
                while not ran_out:
                    try:
                        RequestReader(self._fs, self._channel, self._operations, pending).run()
                        ran_out = True
                    except Exception:  # one request has no answer; the thread goes on with the next
                        log.exception("reader %d", index)
            finally:
                pending.soon(ended.set)

        thread = threading.Thread(target=read, name=f"fuse {index}", daemon=True)
        thread.start()
        return thread

    def _join(self, threads: list[threading.Thread]) -> None:
        """Waits for the threads, which the unmount has woken: the connection is gone."""
        for thread in threads:
            thread.join(JOIN)
        if not any(thread.is_alive() for thread in threads):
            os.close(self._channel.fd)
            self._channel.fd = -1

    def unmount(self) -> None:
        if self._mount:
            device.abort(self._mount, self._channel.fd)

    def forget_answers(self, folders: set[int]) -> None:
        self._kept.drop(folders)

    def forget_inode(self, number: int) -> None:
        self._channel.notify(replies.inval_inode(number))
        self._fs.counters.notified += 1

    def forget_entry(self, parent: int, name: bytes) -> None:
        self._channel.notify(replies.inval_entry(parent, name))
        self._fs.counters.notified += 1
