"""The watcher: the process between lazyfs's own process (ours) and the runtime. It ends all other processes
of the start if ours is killed.

A runtime can ask the kernel to kill it when its parent ends. But in its first milliseconds it has not asked
yet, and neither has its child: SIGKILL to our process in that time would leave the program running. So the
kernel tells the watcher when our process ends. The watcher adopts the processes that the runtime leaves, and
kills them all.
"""

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from lazyfs.runtimes.joined_directories import CompletedImage, complete
from lazyfs.runtimes.limits import GRACE_SECONDS, KeptLimits, set_rlimits
from lazyfs.runtimes.protocol import Attendant, RuntimeFailed
from lazyfs.runtimes.records import NOTHING
from lazyfs.system.control_groups import enter_group, remove_group

_TO_ALL = frozenset({signal.SIGINT, signal.SIGQUIT})
"""Signals that a terminal sends to all processes of its foreground job."""
FORWARDED = _TO_ALL | {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT}
_OUR_END = signal.SIGRTMIN + 5
"""The signal that the kernel sends to the watcher when our process ends; it is not forwarded."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class WatchedCommand(NamedTuple):
    """A command that the watcher runs."""

    argv: list[str]
    executable: str
    user: tuple[int, int] | None
    descriptors: tuple[int, ...]
    """Descriptors that the command inherits beside the standard streams."""
    image: CompletedImage | None
    """The image that the watcher completes (`complete`) before it starts the command; None if nothing is
    missing."""
    detach: Callable[[], None]
    """A function that is called in the new process before it becomes the command."""
    programs: Callable[[int], list[int]]
    """Returns the ids of the processes that get the caller's signals, given the command's process id."""
    environment: Mapping[str, str] = NOTHING
    scratch: str | None = None
    """A directory that is made for the command's user, and removed after every process has ended."""
    attendant: Attendant | None = None
    status: int = -1
    """The descriptor that the attendant's report is written to."""
    limits: KeptLimits = KeptLimits()
    group: str | None = None
    """A control group that is made for the command, and removed together with the groups below it."""
    detach_becomes_user: bool = False
    """True if `detach` itself changes to the command's user; False if it is called after that change."""


def watch(command: WatchedCommand, ours: int, answer: int, mask: set[signal.Signals]) -> None:
    """Runs the command to its end and exits; to be called in a fork of the process `ours`.

    Writes JSON to the descriptor `answer`: {"code": N as in Popen.returncode, "limit": the limit that ended
    the program, or null}; or {"error": text}; or {"failed": text} for a failure of the runtime's daemon.
    Signals to this process are forwarded to the programs; the caller has already blocked these signals.
    `mask`: the signal mask that the command gets.
    """
    result: dict[str, int | str | None] = {"error": "the watcher ended early"}
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {_OUR_END})
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
        libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(_OUR_END))
        if os.getppid() == ours:
            if command.image is not None:
                complete(command.image)
            _make_scratch(command)
            if command.attendant is not None:
                command.attendant.make()
            if command.limits.group is not None:
                command.limits.group.make()
            code, limit = _run(command, mask)
            if command.attendant is not None:
                os.write(command.status, command.attendant.report())
            if command.limits.group is not None and command.limits.group.ran_out_of_memory():
                limit = "memory"
            result = {"code": code, "limit": limit}
    except (OSError, subprocess.SubprocessError) as error:
        result = {"error": str(error)}
    except RuntimeFailed as error:
        result = {"failed": str(error)}
    finally:
        _end_all()
        _remove_scratch(command)
        if command.limits.group is not None:
            command.limits.group.remove()
        if command.attendant is not None:
            with suppress(RuntimeFailed):  # a daemon that does not answer any more
                command.attendant.remove()
        with suppress(BrokenPipeError):
            os.write(answer, json.dumps(result).encode())
        os._exit(0)


def _make_scratch(command: WatchedCommand) -> None:
    if command.scratch is not None:
        os.mkdir(command.scratch, 0o700)
        if command.user is not None:
            os.chown(command.scratch, *command.user)
    if command.group is not None:
        os.mkdir(command.group)


def _remove_scratch(command: WatchedCommand) -> None:
    """Removes the scratch directory and the control group. The directory is empty: its files were in memory,
    and that has gone with the processes."""
    if command.scratch is not None:
        with suppress(OSError):
            os.rmdir(command.scratch)
    if command.group is not None:
        remove_group(command.group)


def _run(command: WatchedCommand, mask: set[signal.Signals]) -> tuple[int, str | None]:
    """Runs the command. Returns its exit code, and `time` if its time was up, else None."""

    def enter() -> None:
        if command.group is not None:
            enter_group(command.group)
        set_rlimits(command.limits)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # Python's handler only notes the signal: one that came just before the exec would be lost.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        command.detach()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    process = _started(command, enter)
    last = _Deadline(command.limits.wanted.seconds)
    while process.poll() is None:
        found = signal.sigtimedwait({signal.SIGCHLD, _OUR_END, *FORWARDED}, last.left())
        received = None if found is None else found.si_signo
        if received == _OUR_END:
            process.kill()
            return process.wait(), None
        if received is None and last.reached():
            _end_late(command, process, last.stage)
            last.stage += 1
        elif received not in (None, signal.SIGCHLD):
            number, programs = signal.Signals(received), command.programs(process.pid)
            if programs or command.attendant is None or not command.attendant.is_starting():
                _forward(number, programs or [process.pid])
            elif number != signal.SIGCONT:
                # The command would pass the signal on to a container without a program, where it is lost.
                process.kill()
                process.wait()
                return -number, "time" if last.stage else None
    return process.returncode, "time" if last.stage else None


class _Deadline:
    """The times at which a program that has used up its time is sent a signal: when the time is up, and after
    each further GRACE_SECONDS."""

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds
        self.stage = 0
        """The number of signals that have been sent because the time is up."""

    def left(self) -> float:
        """Returns the seconds until the next deadline; a day if there is no limit."""
        if self._at is None:
            return 86400.0
        return max(self._at + self.stage * GRACE_SECONDS - time.monotonic(), 0.0)

    def reached(self) -> bool:
        return self.left() == 0


def _end_late(command: WatchedCommand, process: "subprocess.Popen[bytes]", stage: int) -> None:
    """Sends one signal to a command that has used up its time. Stage 0: SIGTERM to its programs; 1: SIGKILL
    to them; 2 and later: SIGKILL to the runtime."""
    programs = (command.programs(process.pid) or [process.pid]) if stage < 2 else [process.pid]
    for pid in programs:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if stage else signal.SIGTERM)


def _started(command: WatchedCommand, enter: Callable[[], None]) -> "subprocess.Popen[bytes]":
    """Starts the command in its control group. This process enters the group for the start and leaves it
    again, since a command that runs as another user may not enter it by itself."""
    becomes = None if command.detach_becomes_user else command.user
    user, group = (None, None) if becomes is None else becomes
    limited = command.limits.group
    if limited is not None:
        limited.enter()
    try:
        return subprocess.Popen(
            command.argv,
            executable=command.executable,
            env=command.environment,
            pass_fds=command.descriptors,
            start_new_session=True,
            preexec_fn=enter,  # noqa: PLW1509 - no threads here
            user=user,
            group=group,
            extra_groups=None if becomes is None else (),
        )
    finally:
        if limited is not None:
            limited.leave()


def _end_all() -> None:
    """Kills every descendant. Orphaned descendants become the watcher's own children, so none escapes."""
    while remaining := children(os.getpid()):
        for pid in (pid for child in remaining for pid in _tree(child)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _forward(number: signal.Signals, programs: list[int]) -> None:
    if number in _TO_ALL:
        programs = [pid for program in programs for pid in _tree(program)]
    for pid in programs:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _tree(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield from _tree(child)
    yield pid


def children(pid: int) -> list[int]:
    """Returns the process ids of the children that all threads of a process have made; none if the process is
    gone."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{pid}/task/{thread}/children") as file,
            ):
                found += [int(word) for word in file.read().split()]
    return found


def mount_namespace(pid: int) -> str:
    """Returns the name of a process's mount namespace. If the name cannot be read, returns the process id,
    which equals the name of no namespace."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return str(pid)
