"""The process of a successor: how a keeper starts it, and that the kernel's OOM killer is to choose it before
the keeper."""

import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from lazyfs.daemon.survival.handed_state import successor_command
from lazyfs.system import clean_start

_OOM_SCORE = "/proc/self/oom_score_adj"


class Started(NamedTuple):
    """A successor that has just been started."""

    line: socket.socket
    """The keeper's end of the line to it."""
    process: int
    watch: int
    """A descriptor that becomes readable when it dies (pidfd_open(2))."""


def started(program: Sequence[str], held: Sequence[int], score: str | None) -> Started:
    """Starts a successor. `program`: the start of its command line. `held`: the descriptors of the device and
    of the table of requests. `score`: its OOM score (`prefer_the_daemon`). Raises OSError; no process is left
    then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        needed = (*held, theirs.fileno())
        command = successor_command(program, needed)
        child = os.fork()
        if not child:
            _become(command, needed, score)
    try:
        return Started(ours, child, os.pidfd_open(child))
    except OSError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def _become(command: list[str], needed: tuple[int, ...], score: str | None) -> NoReturn:
    try:
        if score is not None:
            with suppress(OSError), open(_OOM_SCORE, "w", encoding="utf-8") as file:
                file.write(score)
        signal.set_wakeup_fd(-1)
        signal.setitimer(signal.ITIMER_REAL, 0)
        clean_start.default_signals()
        for fd in needed:
            os.set_inheritable(fd, True)
        os.execv(command[0], command)  # noqa: S606
    finally:
        os._exit(127)


def prefer_the_daemon() -> str | None:
    """Lowers this process's score for the kernel's OOM killer, so that the killer chooses the daemon first.
    Returns the score before, which this process's children get back: they become daemons. If the kernel does
    not allow the change, changes nothing and returns None."""
    with suppress(OSError), open(_OOM_SCORE, "r+", encoding="utf-8") as file:
        now = file.read().strip()
        file.seek(0)
        file.write(str(max(int(now) - 500, -1000)))
        file.flush()
        return now
    return None
