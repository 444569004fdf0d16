"""Many HTTP attempts on libcurl in one thread, over connections that they share.

epoll tells which sockets are ready, and libcurl is told of those alone (`socket_action`). Any number of
requests takes one wait, and a thread that has more work for the loop wakes it through an event descriptor.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pycurl

from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.connect import Resolver
from lazyfs.transport.curl_tls import place
from lazyfs.transport.curl_transfer import EasyHandle, Transfer
from lazyfs.transport.guard import SLICE, Guard, Limits
from lazyfs.transport.spare_connections import SpareConnections

if TYPE_CHECKING:
    from lazyfs.transport.tls import Tls

_EVENTS: Final = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}

KEPT_SECONDS: Final = 60.0
"""Seconds for which an idle connection is taken to be open: nginx keeps one for 75 s, squid for 120."""


class CurlLoop:
    """Attempts side by side. One thread calls everything but `wake`."""

    def __init__(
        self,
        limits: Limits,
        resolver: Resolver,
        *,
        connections: int,
        tls: "Tls | None" = None,
        spares: SpareConnections,
    ) -> None:
        """`connections`: the largest number of connections that are kept alive. `spares`: further ones that
        are used before new ones are made; their owner closes them."""
        self._limits = limits
        self._resolver = resolver
        self._tls = tls
        self._spares = spares
        self._most_idle = connections
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._epoll = select.epoll()
        self._guard = threading.Lock()
        """Held while the event descriptor `_bell` is written to or closed: once closed, its number may be
        another file's."""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._timer: float | None = None
        """The time at which libcurl wants to be called even if no socket is ready, on time.monotonic()'s
        clock."""
        self._look_at = 0.0
        """Moment of the next look at the transfers' limits."""
        self._running: dict[Any, Transfer] = {}
        self._idle: deque[EasyHandle] = deque()

    def idle(self) -> int:
        """Returns the number of idle connections that were used lately and are likely to be open. May be
        called in any thread."""
        lately = time.monotonic() - KEPT_SECONDS
        return sum(handle.used >= lately for handle in self._idle.copy())

    def begin(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Transfer | None:
        """Begins an attempt, whose end `advance` will report. Returns None if the attempt would wait for the
        name service: it must then be made in a thread that may wait."""
        addresses = self._resolver.known(*place(attempt.proxy or attempt.url))
        if addresses is None:
            return None
        guard = Guard(attempt.deadline, self._limits.hurried(attempt.patience), check_cancelled)
        handle = self._idle.pop() if self._idle else EasyHandle(self._tls, self._spares)
        transfer = Transfer(handle, attempt, guard, addresses, self._tls)
        if not self._running:
            self._look_at = time.monotonic() + SLICE
        self._running[handle.easy] = transfer
        self._multi.add_handle(handle.easy)
        return transfer

    def advance(self, timeout: float) -> list[tuple[Transfer, Answer | BaseException]]:
        """Waits until an attempt has ended, the loop is woken, or `timeout` seconds are over; or earlier, if
        a limit has to be checked. Returns the attempts that have ended, each with the result or the exception
        of CurlClient.get."""
        now = time.monotonic()
        until = now + timeout
        if self._running:
            until = min(until, self._look_at)
        if self._timer is not None:
            until = min(until, self._timer)
        for descriptor, events in self._epoll.poll(max(until - now, 0)):
            if descriptor == self._bell:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            else:
                ready = pycurl.CSELECT_IN if events & ~select.EPOLLOUT else 0
                ready |= pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
                self._multi.socket_action(descriptor, ready)
        if self._timer is not None and time.monotonic() >= self._timer:
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        ended = self._ended()
        if not self._running:
            self._spares.close_old()
        elif time.monotonic() >= self._look_at:
            self._spares.close_old()
            ended += self._over_their_limits()
            self._look_at = time.monotonic() + SLICE
        return ended

    def _ended(self) -> list[tuple[Transfer, Answer | BaseException]]:
        found: list[tuple[Transfer, Answer | BaseException]] = []
        queued = 1
        while queued:
            queued, whole, failed = self._multi.info_read()
            found += [self._take(easy, 0, "") for easy in whole]
            found += [self._take(easy, code, text) for easy, code, text in failed]
        return found

    def _take(self, easy: Any, code: int, text: str) -> tuple[Transfer, Answer | BaseException]:
        transfer = self._running.pop(easy)
        outcome: Answer | BaseException
        try:
            outcome = transfer.answer(code, text)
        except BaseException as failure:  # noqa: BLE001 (told to the caller)
            self._end(transfer, usable=False)
            return transfer, failure
        self._end(transfer, usable=True)
        return transfer, outcome

    def _over_their_limits(self) -> list[tuple[Transfer, Answer | BaseException]]:
        found: list[tuple[Transfer, Answer | BaseException]] = []
        for easy, transfer in list(self._running.items()):
            try:
                transfer.check()
            except BaseException as failure:  # noqa: BLE001 (told to the caller)
                del self._running[easy]
                self._end(transfer, usable=False)
                found.append((transfer, failure))
        return found

    def _end(self, transfer: Transfer, *, usable: bool) -> None:
        """Takes the handle of a transfer back: keeps it idle if `usable`, otherwise closes it.

        libcurl closes the connection of an attempt that is unfinished or failed.
        """
        self._multi.remove_handle(transfer.handle.easy)
        if usable and len(self._idle) < self._most_idle:
            transfer.handle.used = time.monotonic()
            self._idle.append(transfer.handle)
        else:
            transfer.handle.close()

    def wake(self) -> None:
        """Ends the present or the next wait of `advance`; does nothing once closed. Thread-safe."""
        with self._guard:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Gives up the transfers under way, and closes all connections; the second call does nothing."""
        for easy in list(self._running):
            self._end(self._running.pop(easy), usable=False)
        while self._idle:
            self._idle.pop().close()
        self._multi.close()
        self._epoll.close()
        with self._guard:
            bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    # libcurl's callbacks

    def _watch(self, what: int, descriptor: int, multi: object, data: object) -> None:  # noqa: ARG002
        if what == pycurl.POLL_REMOVE:
            with suppress(OSError):  # closed already
                self._epoll.unregister(descriptor)
            return
        try:
            self._epoll.register(descriptor, _EVENTS[what])
        except FileExistsError:
            self._epoll.modify(descriptor, _EVENTS[what])

    def _set_timer(self, milliseconds: int) -> None:
        self._timer = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000
