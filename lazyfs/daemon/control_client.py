"""Questions to the daemon of a mount, over its control socket; blocking, and never longer than a limit."""

import json
import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.daemon import runtime_directory
from lazyfs.system.mountpoint import FSTYPE, Mount, absolute, find

SECONDS = 5.0
"""How long a daemon that was named may take to answer what it knows without the network."""
SECONDS_EACH = 2.0
"""How long each of several may take, side by side."""
LARGEST_ANSWER = 64 << 20
"""Bytes. A thousand repositories take 2 MB."""
_RETRY = 0.02
"""Seconds after which a daemon whose queue of callers is full is called again."""
_CREDENTIALS = struct.Struct("iii")


class NoDaemon(UsageError):
    """Nobody listens for this mount, as far as this user can see."""


class NoAnswer(UsageError):
    """A daemon is there and does not answer in time; `pid` is its number here, 0 if it has none here."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class Reply(NamedTuple):
    """What a daemon said, and which process it is."""

    fields: dict[str, Any]
    pid: int
    """Its number in the caller's PID namespace; 0 if it has none there."""


def mounted_at(mountpoint: str) -> Mount:
    """Returns the mount of lazyfs at a path; raises UsageError if something else is there, or nothing."""
    path = absolute(mountpoint)
    there = find(path)
    if there is None or there.fstype != FSTYPE:
        raise UsageError(f"{path} is no mount of lazyfs; lazyfs status lists those there are")
    return there


def ask(mount: Mount, request: Mapping[str, Any], seconds: float = SECONDS) -> Reply:
    """Sends one request to the daemon of a mount and returns its answer.

    Raises NoDaemon, NoAnswer, and UsageError for a request that the daemon refuses.
    """
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.setblocking(False)  # noqa: FBT003
        _connect(line, mount, deadline)
        pid = _CREDENTIALS.unpack(
            line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )[0]
        try:
            answer = _exchange(line, json.dumps(request).encode() + b"\n", deadline)
        except TimeoutError:
            who = f"the daemon of {mount.mountpoint}" + (f" (pid {pid})" if pid else "")
            raise NoAnswer(f"{who} does not answer in {seconds:g} s; it may be frozen", pid) from None
        except OSError as error:
            raise NoDaemon(f"the daemon of {mount.mountpoint} ended while it was asked: {error}") from None
    return Reply(_read(answer, mount), pid)


def _connect(line: socket.socket, mount: Mount, deadline: float) -> None:
    for path in runtime_directory.socket_paths(mount):
        while True:
            try:
                line.connect(path)
                return
            except BlockingIOError:  # many ask at once: its queue of callers is full
                if time.monotonic() > deadline:
                    text = f"the daemon of {mount.mountpoint} takes no more callers; it may be frozen"
                    raise NoAnswer(text, 0) from None
                time.sleep(_RETRY)
            except OSError:
                break
    raise NoDaemon(f"no lazyfs daemon of this user answers for {mount.mountpoint}")


def _exchange(line: socket.socket, request: bytes, deadline: float) -> bytes:
    """Sends, and receives up to the end of the line or of the connection. Raises TimeoutError and OSError."""
    while request:
        _wait(line, select.POLLOUT, deadline)
        request = request[line.send(request) :]
    answer = bytearray()
    while not answer.endswith(b"\n") and len(answer) < LARGEST_ANSWER:
        _wait(line, select.POLLIN, deadline)
        part = line.recv(1 << 16)
        if not part:
            break
        answer += part
    return bytes(answer)


def _wait(line: socket.socket, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(line, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError


def _read(answer: bytes, mount: Mount) -> dict[str, Any]:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        raise NoDaemon(f"the daemon of {mount.mountpoint} ended while it was asked") from None
    if not isinstance(found, dict):
        raise UsageError(f"what answers for {mount.mountpoint} is no lazyfs daemon")
    if not found.get("ok"):
        raise UsageError(f"{mount.mountpoint}: {found.get('error', 'refused')}")
    return found


def ask_each(
    mounts: Sequence[Mount], request: Mapping[str, Any], seconds: float = SECONDS_EACH
) -> list[Reply | UsageError]:
    """Asks several daemons at the same time: one that is frozen costs `seconds`, however many there are."""

    def ask_one(mount: Mount) -> Reply | UsageError:
        try:
            return ask(mount, request, seconds)
        except UsageError as error:
            return error

    if not mounts:
        return []
    with ThreadPoolExecutor(len(mounts)) as threads:
        return list(threads.map(ask_one, mounts))


def remove_dead(mount: Mount) -> None:
    """Removes the socket of a daemon that could not do so itself: killed, or no longer root by then."""
    for path in runtime_directory.socket_paths(mount):
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line,
            suppress(FileNotFoundError, PermissionError, BlockingIOError),
        ):
            line.setblocking(False)  # noqa: FBT003
            try:
                line.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
