"""The kernel's requests of a mount while no daemon serves it: the keeper reads them from the device.

STATFS is answered, so that `df` does not hang. All other requests go into the table of requests, for the next
daemon, and get EIO once they are past the mount's patience.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from lazyfs.fuse.direct.channel import OVER
from lazyfs.fuse.direct.request_table import RequestTable
from lazyfs.fuse.wire import protocol as p
from lazyfs.fuse.wire import replies, requests

READ = 0.05
"""Timeout of one read of the device, in seconds. A read may find nothing although the device was ready,
because another process has taken the request."""

_NOTES = (p.FORGET, p.BATCH_FORGET)
_STATFS = replies.empty_statfs()


class _Late(Exception):
    """Raised in a read of the device that got no request within READ seconds."""


def _give_up(_: int, __: FrameType | None) -> None:
    raise _Late


class UnservedRequests:
    """The unserved requests of one mount. Not thread-safe; works in the main thread only, because it uses
    SIGALRM."""

    def __init__(
        self, device: int, table: RequestTable, patience: float, refuses_all: Callable[[], bool]
    ) -> None:
        """`device`: a descriptor of /dev/fuse; closed with the table by `close`. `patience`: the longest that
        a request waits, in seconds. `refuses_all`: returns True if every request is to get EIO at once."""
        self.device = device
        self._table = table
        self._patience = patience
        self._refuses_all = refuses_all
        signal.signal(signal.SIGALRM, _give_up)

    @property
    def descriptors(self) -> tuple[int, int]:
        """The descriptors of the device and of the table, for a successor."""
        return self.device, self._table.fd

    def close(self) -> None:
        """Closes the descriptors of the device and the table. Those of other processes stay open."""
        os.close(self.device)
        self._table.close()

    def read(self) -> bool:
        """Reads one request and deals with it. Returns False if the mount is gone."""
        buffer = self._table.keepers_buffer()
        buffer[:4] = bytes(4)
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, READ, READ)
                if not os.readv(self.device, [buffer]):
                    return False
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except _Late:  # perhaps just after the read: the buffer tells
            pass
        except OSError as error:
            return error.errno not in OVER
        length = int.from_bytes(buffer[:4], sys.byteorder)
        if length >= p.IN_HEADER.size:
            self._take(bytes(buffer[:length]))
        buffer[:4] = bytes(4)
        return True

    def adopt_buffers(self) -> None:
        """Answers the requests in the buffers of the daemon's reader threads, or enters them into the table:
        a dead or stopped daemon may not have answered them."""
        for kept in self._table.kept_in_buffers():
            self._take(kept.request)

    def refuse_late(self) -> None:
        """Answers EIO to the requests that have waited for longer than the mount's patience; to all requests
        in the table if every request is to get EIO at once."""
        patience = 0.0 if self._refuses_all() else self._patience
        late = time.monotonic_ns() - int(patience * 1e9)
        for kept in self._table.kept_in_slots():
            if kept.arrival <= late:
                self._refuse(p.IN_HEADER.unpack_from(kept.request)[2], errno.EIO)
                self._table.settle(kept)

    def _take(self, request: bytes) -> None:
        """Answers a request, or enters it into the table."""
        _, opcode, unique, number, *_ = p.IN_HEADER.unpack_from(request)
        payload = request[p.IN_HEADER.size :]
        if opcode in _NOTES:
            return  # the next daemon does not count on lookups
        if opcode == p.STATFS:
            self._write(p.OUT_HEADER.pack(p.OUT_HEADER.size + len(_STATFS), 0, unique) + _STATFS)
        elif opcode == p.INTERRUPT:
            self._interrupt(unique, payload)
        elif opcode == p.DESTROY:
            self._refuse(unique, 0)
        elif self._refuses_all() or self._table.enter(opcode, unique, number, payload) < 0:
            self._refuse(unique, errno.EIO)

    def _interrupt(self, unique: int, payload: bytes) -> None:
        """Answers an INTERRUPT: the request that it names gets EINTR if it waits in the table; otherwise the
        INTERRUPT itself gets EAGAIN."""
        with suppress(requests.Malformed):
            wanted = requests.interrupted(payload)
            for kept in self._table.kept_in_slots():
                if p.IN_HEADER.unpack_from(kept.request)[2] == wanted:
                    self._table.settle(kept)
                    self._refuse(wanted, errno.EINTR)
                    return
        self._refuse(unique, errno.EAGAIN)

    def _refuse(self, unique: int, number: int) -> None:
        self._write(replies.error(number, unique))

    def _write(self, answer: bytes) -> None:
        with suppress(OSError):  # nobody waits for it any more
            os.write(self.device, answer)
