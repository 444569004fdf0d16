"""Limits of a start on memory, processes and time, and the means of this machine that enforce them."""

import os
import resource
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.control_group import ControlGroup, places

GRACE_SECONDS = 10.0
"""Grace period in seconds: from SIGTERM to SIGKILL for a program whose time is up."""


class Limits(NamedTuple):
    """The limits that the caller wants; None for no limit."""

    memory: int | None = None
    """The limit of memory in bytes."""
    processes: int | None = None
    """The limit of the number of processes and threads."""
    seconds: float | None = None

    def __bool__(self) -> bool:
        return (self.memory, self.processes, self.seconds) != (None, None, None)


class KeptLimits(NamedTuple):
    """Limits together with the means that enforce them. Made before a start, and used by the start's
    watcher."""

    wanted: Limits = Limits()
    group: ControlGroup | None = None
    rlimits: tuple[tuple[int, int], ...] = ()
    """(RLIMIT_*, value) of the rlimits that are set for each process."""
    by: tuple[tuple[str, str], ...] = ()
    """(name of a limit, description of the means that enforces it), for people."""


def keep(wanted: Limits, name: str, *, user: int, by_daemon: bool = False) -> KeptLimits:
    """Returns the limits with the means on this machine that can enforce them. `name`: the name of the
    control group to be made. `user`: the id of the user as whom the program is started. `by_daemon`: True if
    the runtime's daemon limits memory and processes.

    Raises UsageError for a limit that nothing here can enforce.
    """
    counts = {"memory": wanted.memory, "pids": wanted.processes}
    asked = {controller: limit for controller, limit in counts.items() if limit is not None}
    by = [] if wanted.seconds is None else [("time", "lazyfs, from the start")]
    if by_daemon:
        return KeptLimits(wanted, by=(*((name, "the daemon's control group") for name in asked), *by))
    found = places(asked) if asked else {}
    rlimits = []
    for controller, limit in asked.items():
        if controller in found:
            by.append((controller, f"a control group below {found[controller].directory}"))
        elif controller == "memory":
            rlimits.append((resource.RLIMIT_DATA, limit))
            by.append(
                (controller, "RLIMIT_DATA, for each process by itself: no control group can be made here")
            )
        elif user == 0:
            raise UsageError(
                "--pids: no control group can be made here, and the kernel counts no processes of root's; "
                "start it as another user (--user)"
            )
        else:
            rlimits.append((resource.RLIMIT_NPROC, limit + _threads_of(user)))
            by.append(
                (controller, "RLIMIT_NPROC, above what the user has now: no control group can be made here")
            )
    group = ControlGroup(name, found, asked) if found else None
    return KeptLimits(wanted, group, tuple(rlimits), tuple(by))


def set_rlimits(kept: KeptLimits) -> None:
    """Sets the rlimits of this process, which its children inherit."""
    for number, value in kept.rlimits:
        hard = resource.getrlimit(number)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (least, least))


def _threads_of(user: int) -> int:
    """Returns the number of threads that the user has on this machine; the kernel compares it with
    RLIMIT_NPROC."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return count


def parse_seconds(text: str) -> float:
    """Returns the seconds of `90`, `90s`, `15m`, `2h`, `1d` or `H:MM:SS`, as batch systems write times.

    Raises UsageError."""
    units: dict[str, float] = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        if ":" in text:
            found = 0.0
            for part in text.split(":"):
                found = found * 60 + int(part)
        else:
            unit = units.get(text[-1:], 0)
            found = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        found = 0
    if not 0 < found < 1e9:
        raise UsageError(f"--time {text!r}: write seconds, or 90s, 15m, 2h, 1d, 1:30:00")
    return found
