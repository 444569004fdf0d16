"""Questions to the daemon of a mount over its control socket. Each call blocks, at most for a time limit."""

import json
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.core.struct_types import analyse
from lazyfs.daemon import runtime_directory
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.status import MountStatus
from lazyfs.daemon.wanted_settings import WantedSettings
from lazyfs.system.mount_table import Mount
from lazyfs.system.mountpoint import FSTYPE, absolute, find
from lazyfs.system.socket_paths import address_of

SECONDS = 5.0
"""Timeout, in seconds, of an answer for which a daemon needs neither disk nor network."""
SECONDS_EACH = 2.0
"""Timeout of the answers, in seconds, when several daemons are asked at the same time."""
REFRESH_SECONDS = 60.0
"""Seconds that a refresh may take beyond the search for new revisions: it also fetches their catalogs and
tells the kernel what has changed."""
RELOAD_SECONDS = 90.0
"""Timeout, in seconds, of the daemon's check that a successor could take the mount."""
LARGEST_ANSWER = 64 << 20
"""The largest number of bytes in an answer. A thousand repositories take 2 MB."""
_STATUS = {"do": "status"}
_RETRY = 0.02
"""Seconds before the retry of a call to a daemon whose queue of callers is full."""
_CREDENTIALS = struct.Struct("iii")
T = TypeVar("T")


class NoDaemon(UsageError):
    """No daemon listens for this mount on a socket that this user can see."""


class NoAnswer(UsageError):
    """A daemon listens but does not answer in time. `pid`: the daemon's process id in this PID namespace; 0
    if it has none here."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class Reply(NamedTuple):
    """The answer of a daemon, and the id of its process."""

    fields: dict[str, Any]
    pid: int
    """The daemon's id in the caller's PID namespace; 0 if it has none there."""


def mounted_at(mountpoint: str) -> Mount:
    """Returns the mount of lazyfs at a path. Raises UsageError if no mount of lazyfs is at the path."""
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
        line.setblocking(False)
        _connect(line, mount, deadline)
        pid = _CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[
            0
        ]
        try:
            answer = _exchange(line, json.dumps(request).encode() + b"\n", deadline)
        except TimeoutError:
            who = f"the daemon of {mount.mountpoint}" + (f" (pid {pid})" if pid else "")
            raise NoAnswer(f"{who} does not answer in {seconds:g} s; it may be frozen", pid) from None
        except OSError as error:
            raise NoDaemon(f"the daemon of {mount.mountpoint} ended while it was asked: {error}") from None
    return Reply(_read(answer, mount), pid)


def status(mount: Mount, seconds: float = SECONDS) -> MountStatus:
    """Returns the status of a mount, from its daemon. Raises as `ask` does."""
    return _status(ask(mount, _STATUS, seconds), mount)


def status_each(mounts: Sequence[Mount], seconds: float = SECONDS_EACH) -> list[MountStatus | UsageError]:
    """Returns each mount's status, or its error. Asks all daemons at the same time, so that any number of
    frozen ones together cost `seconds`."""
    return _each(lambda mount: status(mount, seconds), mounts)


def settings_each(mounts: Sequence[Mount], seconds: float) -> list[WantedSettings | UsageError]:
    """Returns each mount's settings, or its error. Asks all daemons at the same time; any number of frozen
    ones together cost `seconds`."""
    return _each(lambda mount: settings(mount, seconds), mounts)


def _each(ask_one: Callable[[Mount], T], mounts: Sequence[Mount]) -> list[T | UsageError]:
    def look(mount: Mount) -> T | UsageError:
        try:
            return ask_one(mount)
        except UsageError as error:
            return error

    # imported only here: it takes 3 ms, and questions to one daemon do without
    from concurrent.futures import ThreadPoolExecutor

    analyse(MountStatus, Settings, Origin)
    with ThreadPoolExecutor(max(1, len(mounts))) as threads:
        return list(threads.map(look, mounts))


def urls(mount: Mount) -> dict[str, str]:
    """Returns the URL of each repository of a mount, with the accounts that `status` hides.

    Raises as `ask` does.
    """
    found = ask(mount, {"do": "urls"}).fields["urls"]
    return {str(name): str(url) for name, url in found.items()}


def settings(mount: Mount, seconds: float = SECONDS) -> WantedSettings:
    """Returns the settings of a mount, including passwords, and the settings' origins. A daemon of root's
    tells them to root only.

    Raises as `ask` does.
    """
    fields = ask(mount, {"do": "settings"}, seconds).fields
    try:
        return WantedSettings(
            msgspec.convert(fields["settings"], Settings),
            msgspec.convert(fields["origins"], dict[str, Origin]),
        )
    except (KeyError, msgspec.ValidationError) as error:
        text = f"the daemon of {mount.mountpoint} is of another version of lazyfs: {error}"
        raise UsageError(text) from None


def refresh(mount: Mount) -> dict[str, str]:
    """Asks a daemon to look for new revisions; returns the result for each repository, as text.

    The daemon first says how long the search may take, so that a frozen daemon is noticed at once. Raises as
    `ask` does.
    """
    longest = ask(mount, {"do": "pid"}).fields.get("patience", REFRESH_SECONDS)
    news = ask(mount, {"do": "refresh"}, float(longest) + REFRESH_SECONDS).fields["repositories"]
    return {str(name): str(text) for name, text in news.items()}


def reload(mount: Mount, program: Sequence[str], wanted: WantedSettings) -> None:
    """Asks a daemon to hand its mount over to a successor process. Returns once the daemon has checked that
    the successor could take the mount. `program`: the start of the successor's command line. Raises as `ask`
    does."""
    request = {
        "do": "reload",
        "program": list(program),
        "settings": msgspec.to_builtins(wanted.settings),
        "origins": msgspec.to_builtins(wanted.origins),
    }
    ask(mount, request, RELOAD_SECONDS)


def _status(reply: Reply, mount: Mount) -> MountStatus:
    try:
        return msgspec.convert(reply.fields | {"pid": reply.pid}, MountStatus)
    except msgspec.ValidationError as error:
        text = f"the daemon of {mount.mountpoint} is of another version of lazyfs: {error}"
        raise UsageError(text) from None


def _connect(line: socket.socket, mount: Mount, deadline: float) -> None:
    for path in runtime_directory.socket_paths(mount):
        while True:
            try:
                with address_of(path) as address:
                    line.connect(address)
                return
            except BlockingIOError:  # the daemon's queue of callers is full
                if time.monotonic() > deadline:
                    text = f"the daemon of {mount.mountpoint} takes no more callers; it may be frozen"
                    raise NoAnswer(text, 0) from None
                time.sleep(_RETRY)
            except OSError:
                break
    raise NoDaemon(f"no lazyfs daemon of this user answers for {mount.mountpoint}")


def _exchange(line: socket.socket, request: bytes, deadline: float) -> bytes:
    """Sends a request and returns the answer, up to the end of its line or of the connection.

    Raises TimeoutError and OSError.
    """
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
        raise UsageError(f"the process that answers for {mount.mountpoint} is no lazyfs daemon")
    if not found.get("ok"):
        raise UsageError(f"{mount.mountpoint}: {found.get('error', 'refused')}")
    return found
