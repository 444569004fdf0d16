"""One HTTP attempt on libcurl in its caller's thread, for a tenth of the CPU of `requests` on a small object
(benchmarks/http).

Optional: used if it is asked for and pycurl is installed. Names are looked up by our own resolver: when a
transfer is given up, libcurl's resolver would wait for a hanging getaddrinfo().
"""

import queue
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pycurl

from lazyfs.core.chain.faults import AttemptFailed
from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.connect import Resolver
from lazyfs.transport.curl_loop import CurlLoop
from lazyfs.transport.curl_tls import place
from lazyfs.transport.curl_transfer import EasyHandle, Transfer
from lazyfs.transport.guard import SLICE, Guard, Limits

if TYPE_CHECKING:
    from lazyfs.transport.tls import Tls


class _Handle(EasyHandle):
    """An easy handle of libcurl with a multi handle of its own, which keeps the connections. The caller of a
    multi handle drives the transfer itself, and so can give it up at any time."""

    def __init__(self, tls: "Tls | None") -> None:
        super().__init__(tls)
        self.multi = pycurl.CurlMulti()

    def close(self) -> None:
        super().close()
        self.multi.close()


class CurlClient:
    """Makes attempts. Thread-safe; handles with their kept-alive connections are lent to threads."""

    def __init__(self, limits: Limits, *, connections: int = 32, tls: "Tls | None" = None) -> None:
        """`connections`: the largest number of idle handles that are kept, each with its connections. `tls`:
        needed if a proxy or origin has an https URL."""
        self._limits = limits
        self._connections = connections
        self._tls = tls
        self._resolver = Resolver()
        # last in, first out: the handle used last has the warmest connection
        self._idle: queue.LifoQueue[_Handle] = queue.LifoQueue(connections)

    def loop(self) -> CurlLoop:
        """Returns a loop for many attempts in one thread, with connections of its own."""
        return CurlLoop(self._limits, self._resolver, connections=self._connections, tls=self._tls)

    def get(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Answer:
        """Returns the answer with status 200 and its whole body. Raises AttemptFailed for any other answer,
        and the exceptions of `check_cancelled`."""
        guard = Guard(attempt.deadline, self._limits.hurried(attempt.patience), check_cancelled)
        try:
            handle = self._idle.get_nowait()
        except queue.Empty:
            handle = _Handle(self._tls)
        try:
            addresses = self._resolver.resolve(*place(attempt.proxy or attempt.url), guard)
            transfer = Transfer(handle, attempt, guard, addresses, self._tls)
            answer = transfer.answer(*_perform(handle.multi, transfer))
        except BaseException:
            handle.close()  # its connection may be in any state
            raise
        try:
            self._idle.put_nowait(handle)
        except queue.Full:
            handle.close()
        if isinstance(answer, AttemptFailed):
            raise answer
        return answer

    def close(self) -> None:
        """Closes idle connections."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


def _perform(multi: pycurl.CurlMulti, transfer: Transfer) -> tuple[int, str]:
    """Carries out a transfer. Returns libcurl's code and text for its end; code 0 means success. Raises as
    `Transfer.check` does."""
    multi.add_handle(transfer.handle.easy)
    try:
        while True:
            _, active = multi.perform()
            if not active:
                break
            if multi.select(SLICE) == -1:
                time.sleep(0.001)  # nothing to wait for yet
            transfer.check()
        _, _, failed = multi.info_read()
        return (failed[0][1], failed[0][2]) if failed else (0, "")
    finally:
        multi.remove_handle(transfer.handle.easy)
