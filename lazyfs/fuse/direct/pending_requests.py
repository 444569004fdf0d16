"""Requests that wait for objects: each is a task in trio, cancelled when the kernel interrupts the request.

A reader thread enters a request here before it asks trio for the task, and trio runs the calls it is given in
order, so an interrupt that finds the request always finds its task too.
"""

import errno
import logging
from collections.abc import Callable

import trio

from lazyfs.fuse.direct.channel import Channel
from lazyfs.fuse.direct.operations import Call
from lazyfs.fuse.file_read import FileRead
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.vfs.missing_objects import Need, NeedRepository

log = logging.getLogger(__name__)


class PendingRequests:
    """The waiting requests of one session. Call `start` and `interrupt` from other threads than trio's."""

    def __init__(self, filesystem: Filesystem, channel: Channel, nursery: trio.Nursery) -> None:
        """Tasks run in the nursery until `close`."""
        self._fs = filesystem
        self._channel = channel
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._scopes: dict[int, trio.CancelScope] = {}
        """Cancel scopes by the request's unique number."""
        self._closed = False

    def start(self, unique: int, call: Call, missing: Need | NeedRepository) -> None:
        """Has a request answered once every object it needs is here. `missing`: the objects that the call
        lacked."""
        scope = self._scopes[unique] = trio.CancelScope()
        self.soon(lambda: self._spawn(unique, call, missing, scope))

    def interrupt(self, unique: int) -> bool:
        """Cancels a request whose caller was killed. Returns False if the request does not wait here."""
        scope = self._scopes.get(unique)
        if scope is None:
            return False
        self.soon(scope.cancel)
        return True

    def close(self) -> None:
        """Lets later requests go unanswered, since the connection is gone. Called in trio's thread."""
        self._closed = True

    def soon(self, call: Callable[[], object]) -> None:
        """Runs the call in trio's thread, after those of earlier calls; not at all once trio has ended."""
        try:
            self._token.run_sync_soon(call)
        except trio.RunFinishedError:
            pass

    def _spawn(
        self, unique: int, call: Call, missing: Need | NeedRepository, scope: trio.CancelScope
    ) -> None:
        if not self._closed:
            self._nursery.start_soon(self._complete, unique, call, missing, scope)

    async def _complete(
        self, unique: int, call: Call, missing: Need | NeedRepository, scope: trio.CancelScope
    ) -> None:
        number = errno.EINTR
        pieces = None
        try:
            with scope:
                pieces = await self._fs.complete(call, missing)
        except OSError as error:
            number = error.errno or errno.EIO
        except Exception as bug:  # noqa: BLE001 (logged by `bug`; one in one answer must not end all others)
            number = self._fs.bug(bug).errno or errno.EIO
        finally:
            del self._scopes[unique]
        if pieces is not None:
            if isinstance(call, FileRead):
                self._fs.counters.read_bytes += sum(map(len, pieces))
            self._channel.reply(unique, pieces)
            return
        if scope.cancelled_caught:
            self._fs.counters.interrupted += 1
        self._channel.refuse(unique, number)
