"""One HTTP attempt on libcurl in its caller's thread, for a tenth of the CPU of `requests` on a small object
(benchmarks/http).

Optional: used if it is asked for and pycurl is installed. Names are looked up by our own resolver: when a
transfer is given up, libcurl's resolver would wait for a hanging getaddrinfo().
"""

import queue
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pycurl

from lazyfs.core.chain.faults import AttemptFailed
from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.connect import Resolver
from lazyfs.transport.curl_loop import CurlLoop
from lazyfs.transport.curl_tls import place
from lazyfs.transport.curl_transfer import EasyHandle, Transfer
from lazyfs.transport.guard import SLICE, Guard, Limits
from lazyfs.transport.spare_connections import SECONDS, SpareConnections

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
        self._spares = SpareConnections()
        self._expected: dict[tuple[str, int], tuple[int, float]] = {}
        """For a host and port whose address is not known yet: the number of requests that are expected to go
        there, and the time of this expectation."""
        self._loops: weakref.WeakSet[CurlLoop] = weakref.WeakSet()
        # last in, first out: the handle used last has the warmest connection
        self._idle: queue.LifoQueue[_Handle] = queue.LifoQueue(connections)

    def loop(self) -> CurlLoop:
        """Returns a loop for many attempts in one thread, with connections of its own."""
        loop = CurlLoop(
            self._limits,
            self._resolver,
            connections=self._connections,
            tls=self._tls,
            spares=self._spares,
        )
        self._loops.add(loop)
        return loop

    def expect(self, urls: Mapping[str, int]) -> None:
        """Opens connections for requests that will come soon, unless the loops have idle ones; returns at
        once. `urls`: the number of requests for each URL of a proxy or an origin. If its name has not been
        looked up yet, the first request that does so opens the connections."""
        total = sum(urls.values())
        lacking = total - sum(loop.idle() for loop in tuple(self._loops))
        for url, count in urls.items() if lacking > 0 else ():
            own = -(-count * lacking // total)  # rounded up
            addresses = self._resolver.known(*place(url))
            if addresses is None:
                self._expected[place(url)] = own, time.monotonic()
            else:
                self._spares.open(addresses, own)

    def get(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Answer:
        """Returns the answer with status 200 and its whole body. Raises AttemptFailed for any other answer,
        and the exceptions of `check_cancelled`."""
        guard = Guard(attempt.deadline, self._limits.hurried(attempt.patience), check_cancelled)
        try:
            handle = self._idle.get_nowait()
        except queue.Empty:
            handle = _Handle(self._tls)
        where = place(attempt.proxy or attempt.url)
        try:
            addresses = self._resolver.resolve(*where, guard)
            expected, since = self._expected.pop(where, (0, 0.0))
            if expected and time.monotonic() - since < SECONDS:
                self._spares.open(addresses, expected)
            transfer = Transfer(handle, attempt, guard, addresses, self._tls)
            answer = transfer.answer(*_perform(handle.multi, transfer, self._spares))
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
        self._spares.close()
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


def _perform(multi: pycurl.CurlMulti, transfer: Transfer, spares: SpareConnections) -> tuple[int, str]:
    """Carries out a transfer. Returns libcurl's code and text for its end; code 0 means success. Raises as
    `Transfer.check` does.

    Meanwhile closes the spare connections that nobody took in time: a server that serves one connection at a
    time may be waiting for a request on one of them.
    """
    multi.add_handle(transfer.handle.easy)
    try:
        while True:
            _, active = multi.perform()
            if not active:
                break
            if multi.select(SLICE) == -1:
                time.sleep(0.001)  # nothing to wait for yet
            transfer.check()
            spares.close_old()
        _, _, failed = multi.info_read()
        return (failed[0][1], failed[0][2]) if failed else (0, "")
    finally:
        multi.remove_handle(transfer.handle.easy)
