"""Unmounts from outside the daemon, and waits until the daemon has ended and freed its cache and socket."""

import os
import select
import time
from contextlib import suppress

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client, control_socket
from lazyfs.daemon.control_client import NoAnswer, NoDaemon
from lazyfs.daemon.runtime_directory import socket_paths
from lazyfs.daemon.unmount_users import end_users, in_use
from lazyfs.system import mountpoint as points
from lazyfs.system.mount_holders import Holder, elsewhere, holders
from lazyfs.system.mount_table import Mount, parse_mountinfo
from lazyfs.system.mountpoint import Health, InUse

CERTAIN = 5.0
"""Seconds without an answer of the filesystem after which its daemon is treated as frozen. The time is long
because programs may rely on a daemon that is only slow."""
SECONDS = 20.0
"""Seconds to wait for the daemon's end. Writing the cache's index takes it a second at most."""


SOON = 2.0
"""Seconds to wait for the daemon's end before other mount points of the same filesystem are searched for."""
GLANCE = 1.0
"""Seconds within which a program that only looks at the mount (df, a monitor, `lazyfs status`) is done."""
STARTING = 3.0
"""Seconds within which a container that is being started drops its copies of this machine's mounts."""


def unmount(mount: Mount, *, lazy: bool, kill: bool = False) -> str:
    """Unmounts, and returns when the daemon has ended, if this user may know the daemon's process. A lazy
    unmount returns at once: the daemon serves open files until they are closed. `kill`: the programs that use
    the mount are ended first.

    Returns a note for the caller, or an empty text. Raises UsageError if the mount stays.
    """
    answers = True
    try:
        daemon = control_client.ask(mount, {"do": "pid"}).pid
    except NoAnswer as silent:
        answers, daemon = False, silent.pid
    except NoDaemon:  # the daemon is dead, or another user's
        answers, daemon = False, 0
    state = Health.ALIVE if answers else points.health(mount.mountpoint, CERTAIN)
    if state is Health.SILENT:
        return _abort(mount, daemon)
    with _Process(daemon) as process:
        # Nobody can use the files that a dead daemon has left open.
        _take_away(mount, lazy=lazy or state is Health.DEAD, kill=kill)
        if not process.ends_within(0 if lazy else SOON):
            places = _elsewhere(mount, daemon)
            if not places and not lazy:
                places = _in_containers(mount, process)
            if places:
                return f"the daemon (pid {daemon}) goes on: its mount is also {places}"
            if lazy:
                return ""
            if not process.ends_within(SECONDS - SOON - STARTING):
                return f"the daemon (pid {daemon}) goes on {SECONDS:g} s after the unmount; see its log"
    for path in socket_paths(mount):
        control_socket.remove_dead(path)
    places = ""
    if state is Health.DEAD:
        places = _elsewhere(mount, 0) or _shown(elsewhere(mount.device))
    return f"its daemon is dead, and the dead mount is also {places}" if places else ""


def _take_away(mount: Mount, *, lazy: bool, kill: bool) -> None:
    """Unmounts. Raises UsageError, which names the programs that use the mount."""
    if _unmounted(mount, lazy=lazy):
        return
    if kill:
        end_users(mount)
        if _unmounted(mount, lazy=False):
            return
    raise UsageError(in_use(mount, holders(mount)))


def _unmounted(mount: Mount, *, lazy: bool) -> bool:
    """Unmounts; retries for GLANCE seconds while the mount is in use. Returns False if it still is in use
    then."""
    until = time.monotonic() + GLANCE
    while True:
        try:
            points.unmount(mount.mountpoint, lazy=lazy)
            return True
        except InUse:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)


def _elsewhere(mount: Mount, daemon: int) -> str:
    """Returns a text that names the other mount points of the same filesystem; empty if none is known.
    `daemon`: the daemon's process id, 0 if unknown."""
    here = [other.mountpoint for other in points.mounts() if other.device == mount.device]
    if here:
        return f"at {', '.join(here)}; unmount that too"
    with suppress(OSError):  # another user's process, or none
        if os.readlink(f"/proc/{daemon}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            with open(f"/proc/{daemon}/mountinfo", "rb") as file:
                there = parse_mountinfo(file.read())
            found = [other.mountpoint for other in there if other.device == mount.device]
            if found:
                place = f"the daemon's mount namespace (nsenter -m -t {daemon})"
                return f"at {', '.join(found)} in {place}; unmount that too"
    return ""


def _in_containers(mount: Mount, daemon: "_Process") -> str:
    """Returns a text that names the programs in other mount namespaces which still keep the filesystem after
    STARTING seconds; empty if there are none, or if the daemon ends before."""
    before = elsewhere(mount.device)
    if not before or daemon.ends_within(STARTING):
        return ""
    now = elsewhere(mount.device)
    return _shown([one for one in before if one in now])


def _shown(containers: list[Holder]) -> str:
    others = [f"pid {one.pid} ({one.command})" for one in containers]
    return f"in containers, with {', '.join(others)}; it goes with those programs" if others else ""


def _abort(mount: Mount, daemon: int) -> str:
    """Aborts a mount whose daemon does not answer: no program in the mount could go on anyway. Returns a note
    for the caller."""
    points.abort(mount)
    places = _elsewhere(mount, 0) or _shown(elsewhere(mount.device))
    also = f"; the dead mount is also {places}" if places else ""
    who = f"the daemon (pid {daemon})" if daemon else "the daemon"
    left = f"; it is still there: kill -KILL {daemon}" if daemon else ""
    return (
        f"{who} does not answer, so that its mount was taken away under the programs that used it{left}{also}"
    )


class _Process:
    """A process that may end at any time, and that this user may not be able to see."""

    def __init__(self, pid: int) -> None:
        self._descriptor = -1
        if pid:
            with suppress(OSError):
                self._descriptor = os.pidfd_open(pid)

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def ends_within(self, seconds: float) -> bool:
        """Waits at most `seconds`; returns True if the process has ended. Returns True at once for a process
        that this user cannot see."""
        if self._descriptor < 0:
            return True
        return bool(select.select([self._descriptor], [], [], seconds)[0])
