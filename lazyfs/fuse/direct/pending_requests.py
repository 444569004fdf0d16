"""Requests that wait for objects: each is a task in trio, cancelled when the kernel interrupts the request.

A reader thread enters a request here before it asks trio for the task, and trio runs calls in the order in
which it gets them. So an interrupt that finds the request always finds its task too. Until the event loop is
there (`attach`), the calls wait in the same order: reader threads answer requests whose objects are at hand
before trio is loaded.
"""

import errno
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from lazyfs.fuse.direct.channel import Channel
from lazyfs.fuse.direct.operations import Call
from lazyfs.fuse.direct.request_table import RequestTable
from lazyfs.fuse.file_read import FileRead
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.vfs.missing_objects import Need, NeedRepository

if TYPE_CHECKING:
    import trio


def _nothing() -> None:
    """Does nothing: nobody waits to be told."""


class _Waiting:
    """One waiting request."""

    def __init__(self, unique: int, call: Call, missing: Need | NeedRepository, slot: int) -> None:
        self.unique = unique
        self.slot = slot
        self.call = call
        self.missing = missing
        self.interrupted = False
        self.scope: trio.CancelScope | None = None
        """The scope by which the request's task is cancelled; None until the task begins."""


class PendingRequests:
    """The waiting requests of one session. Call `start` and `interrupt` from other threads than trio's."""

    def __init__(self, filesystem: Filesystem, channel: Channel, table: RequestTable) -> None:
        self._table = table
        self._fs = filesystem
        self._channel = channel
        self._nursery: trio.Nursery | None = None
        self._run_soon: Callable[[Callable[[], object]], None] | None = None
        self._before: list[Callable[[], object]] = []
        """The calls for trio's thread that came before `attach`."""
        self.needs_loop: Callable[[], object] = _nothing
        """Called for each of these calls, in any thread."""
        self._guard = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        """The waiting requests, by the unique numbers that the kernel gave them."""
        self._closed = False

    def attach(self, nursery: "trio.Nursery") -> None:
        """Runs the tasks in this nursery from now on until `close`. Called in trio's thread."""
        import trio

        token = trio.lowlevel.current_trio_token()

        def run_soon(call: Callable[[], object]) -> None:
            try:
                token.run_sync_soon(call)
            except trio.RunFinishedError:
                pass

        self._nursery = nursery
        with self._guard:
            self._run_soon = run_soon
            before, self._before = self._before, []
        for call in before:
            call()

    @property
    def has_loop(self) -> bool:
        """True once trio has attached."""
        return self._run_soon is not None

    def start(self, unique: int, call: Call, missing: Need | NeedRepository, slot: int) -> None:
        """Answers a request in trio once every object it needs is here; returns at once. `missing`: the
        objects that the call lacked. `slot`: the slot of the request in the request table."""
        waiting = self._waiting[unique] = _Waiting(unique, call, missing, slot)
        self.soon(lambda: self._spawn(waiting))

    def waits(self, unique: int) -> bool:
        """Returns True if the request waits here already."""
        return unique in self._waiting

    def interrupt(self, unique: int) -> bool:
        """Cancels a request whose caller was killed. Returns False if the request does not wait here."""
        waiting = self._waiting.get(unique)
        if waiting is None:
            return False
        self.soon(lambda: self._cancel(waiting))
        return True

    def close(self) -> None:
        """From now on, drops requests unanswered: the connection is gone. Called in trio's thread."""
        self._closed = True

    def soon(self, call: Callable[[], object]) -> None:
        """Runs `call` later in trio's thread, in the order in which `soon` got its calls. Drops it if trio
        has ended."""
        with self._guard:
            run_soon = self._run_soon
            if run_soon is None:
                self._before.append(call)
                self.needs_loop()
                return
        run_soon(call)

    def _cancel(self, waiting: _Waiting) -> None:
        waiting.interrupted = True
        if waiting.scope is not None:
            waiting.scope.cancel()

    def _spawn(self, waiting: _Waiting) -> None:
        if not self._closed and self._nursery is not None:
            self._nursery.start_soon(self._complete, waiting)

    async def _complete(self, waiting: _Waiting) -> None:
        import trio

        number = errno.EINTR
        pieces = None
        scope = waiting.scope = trio.CancelScope()
        try:
            with scope:
                if waiting.interrupted:
                    scope.cancel()
                pieces = await self._fs.complete(waiting.call, waiting.missing)
        except OSError as error:
            number = error.errno or errno.EIO
        except Exception as bug:  # noqa: BLE001 (logged by `bug`; one in one answer must not end all others)
            number = self._fs.bug(bug).errno or errno.EIO
        finally:
            del self._waiting[waiting.unique]
        if pieces is not None:
            if isinstance(waiting.call, FileRead):
                self._fs.counters.read_bytes += sum(map(len, pieces))
            self._channel.reply(waiting.unique, pieces)
        else:
            if scope.cancelled_caught:
                self._fs.counters.interrupted += 1
            self._channel.refuse(waiting.unique, number)
        self._table.leave(waiting.slot)
