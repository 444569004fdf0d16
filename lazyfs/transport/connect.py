"""Looks up names and opens sockets, within the limits that an attempt's guard sets (`guard`)."""

import errno
import functools
import os
import select
import socket
import threading
import time
from contextlib import suppress

from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.transport.guard import SLICE, Guard

Address = tuple[int, tuple[str, int] | tuple[str, int, int, int]]
"""Address family, and the address for connect()."""

_FRESH = 60.0
"""Seconds for which an answer of the name service is used before the service is asked again."""
_PATIENCE = 1.0
"""Seconds to wait for a late name service while an old answer is at hand."""
_MAX_LOOKUPS = 8
"""The largest number of lookups that may hang at one time; getaddrinfo() cannot be interrupted."""


class _Lookup:
    """One question to the name service, in a thread of its own because getaddrinfo() takes no timeout."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.addresses: list[Address] = []
        self.error = ""


class Resolver:
    """Remembers addresses; asks for one name only once at a time; prefers an old answer to none.

    Thread-safe. If the name service hangs or dies, an attempt with a known name waits at most _PATIENCE for
    it; attempts that need new names fail.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._asking: dict[tuple[str, int], _Lookup] = {}

    def known(self, host: str, port: int) -> list[Address] | None:
        """Returns the known addresses of a host in the order to try; None if the resolver knows none. Never
        waits: if the addresses are old, it begins a look-up and returns the old ones."""
        literal = _literal(host, port)
        if literal:
            return literal
        key = (host, port)
        with self._lock:
            age, addresses = self._known.get(key, (0.0, []))
            old = time.monotonic() - age >= _FRESH
            if addresses and old and key not in self._asking and len(self._asking) < _MAX_LOOKUPS:
                with suppress(AttemptFailed):  # no threads left: the next request tries again
                    self._begin(key)
        return addresses or None

    def resolve(self, host: str, port: int, guard: Guard) -> list[Address]:
        """Returns the addresses of a host in the order to try. Raises AttemptFailed(DNS), or the guard's
        exceptions."""
        literal = _literal(host, port)
        if literal:
            return literal
        key = (host, port)
        with self._lock:
            age, old = self._known.get(key, (-_FRESH, []))
            if old and time.monotonic() - age < _FRESH:
                return old
            lookup = self._asking.get(key)
            if lookup is None:
                if len(self._asking) >= _MAX_LOOKUPS:
                    raise AttemptFailed(Fault.DNS, f"{host}: {_MAX_LOOKUPS} lookups are hanging already")
                lookup = self._begin(key)
        until = guard.connect_deadline()
        if old:
            until = min(until, time.monotonic() + _PATIENCE)
        while not lookup.done.wait(max(min(SLICE, until - time.monotonic()), 0)):
            guard.check()
            if time.monotonic() >= until:
                break
        if lookup.addresses:
            return lookup.addresses
        if old:
            return old
        raise AttemptFailed(Fault.DNS, f"{host}: {lookup.error or 'no answer from the name service'}")

    def _begin(self, key: tuple[str, int]) -> _Lookup:
        """Starts a look-up of (host, port) in a thread; the caller holds the resolver's lock."""
        lookup = _Lookup()
        thread = threading.Thread(target=self._ask, args=(key, lookup), name=f"resolve {key[0]}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no threads left: a look-up in the table would be waited for for ever
            raise AttemptFailed(Fault.DNS, f"{key[0]}: {error}") from None
        self._asking[key] = lookup
        return lookup

    def _ask(self, key: tuple[str, int], lookup: _Lookup) -> None:
        try:
            lookup.addresses = _addresses(*key)
        except OSError as error:
            lookup.error = error.strerror or str(error)
        except (ValueError, OverflowError):  # ValueError: UnicodeError, or a name with NUL
            lookup.error = "not a host name"
        with self._lock:
            if lookup.addresses:
                self._known[key] = (time.monotonic(), lookup.addresses)
            del self._asking[key]
        lookup.done.set()


def _addresses(host: str, port: int, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(int(family), address) for family, _, _, _, address in found]  # type: ignore[misc]


@functools.lru_cache(maxsize=256)
def _literal(host: str, port: int) -> list[Address]:
    try:
        return _addresses(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []


def open_socket(host: str, port: int, guard: Guard, resolver: Resolver) -> socket.socket:
    """Returns a connected TCP socket. Raises AttemptFailed (DNS, REFUSED, UNREACHABLE, CONNECT), or the
    guard's exceptions."""
    failure = AttemptFailed(Fault.DNS, f"{host}: no addresses")
    addresses = resolver.resolve(host, port, guard)
    for index, (family, address) in enumerate(addresses):
        share = (guard.connect_deadline() - time.monotonic()) / (len(addresses) - index)
        try:
            return _connect(family, address, time.monotonic() + share, guard)
        except AttemptFailed as error:
            failure = error
    raise failure


def _connect(
    family: int, address: tuple[str, int] | tuple[str, int, int, int], until: float, guard: Guard
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _finish_connect(sock, sock.connect_ex(address), f"{address[0]} port {address[1]}", until, guard)
    except BaseException:
        sock.close()
        raise
    guard.connected = True
    return sock


def _finish_connect(sock: socket.socket, code: int, where: str, until: float, guard: Guard) -> None:
    if code == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while not poll.poll(max(0, min(SLICE, until - time.monotonic())) * 1000):
            guard.check()
            if time.monotonic() >= until:
                raise AttemptFailed(Fault.CONNECT, where)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == errno.ECONNREFUSED:
        raise AttemptFailed(Fault.REFUSED, where)
    if code:
        raise AttemptFailed(Fault.UNREACHABLE, f"{where}: {os.strerror(code)}")
