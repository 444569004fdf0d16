"""The process between ours and the runtime, which leaves nothing behind when ours is killed.

A runtime that dies with its parent does not do so in its first milliseconds, and its own child does not die
with it then: SIGKILL in that time would leave the program running. The watcher is told of our end by the
kernel, adopts whatever the runtime leaves, and ends it all.
"""

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

_TO_ALL = frozenset({signal.SIGINT, signal.SIGQUIT})
"""Signals that a terminal sends to all of a job's processes."""
FORWARDED = _TO_ALL | {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT}
_OUR_END = signal.SIGRTMIN + 5
"""Sent by the kernel to the watcher when our process ends; no signal that is forwarded."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True, slots=True)
class WatchedCommand:
    """A command for the watcher."""

    argv: list[str]
    executable: str
    user: tuple[int, int] | None
    descriptors: tuple[int, ...]
    """Those that the command inherits beside the standard streams."""
    detach: Callable[[], None]
    """Called in the new process before it becomes the command."""
    programs: Callable[[int], list[int]]
    """From the command's process id, the processes that a signal is meant for."""


def watch(command: WatchedCommand, ours: int, answer: int, mask: set[signal.Signals]) -> None:
    """Runs the command to its end and exits; to be called in a fork of the process `ours`.

    Writes JSON to the descriptor `answer`: {"code": N} as Popen.returncode has it, or {"error": text}.
    Signals sent to this process go to the programs; all that are waited for are blocked already. The command
    has the signal mask `mask`.
    """
    result: dict[str, int | str] = {"error": "the watcher ended early"}
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {_OUR_END})
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
        libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(_OUR_END))
        if os.getppid() == ours:
            result = {"code": _run(command, mask)}
    except (OSError, subprocess.SubprocessError) as error:
        result = {"error": str(error)}
    finally:
        _end_all()
        with suppress(BrokenPipeError):
            os.write(answer, json.dumps(result).encode())
        os._exit(0)


def _run(command: WatchedCommand, mask: set[signal.Signals]) -> int:
    def enter() -> None:
        command.detach()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    user, group = (None, None) if command.user is None else command.user
    process = subprocess.Popen(
        command.argv,
        executable=command.executable,
        env={},
        pass_fds=command.descriptors,
        start_new_session=True,
        preexec_fn=enter,  # noqa: PLW1509 - no threads here
        user=user,
        group=group,
        extra_groups=None if user is None else (),
    )
    while process.poll() is None:
        received = signal.sigwaitinfo({signal.SIGCHLD, _OUR_END, *FORWARDED}).si_signo
        if received == _OUR_END:
            process.kill()
            return process.wait()
        if received != signal.SIGCHLD:
            _forward(signal.Signals(received), command.programs(process.pid) or [process.pid])
    return process.returncode


def _end_all() -> None:
    """Kills every descendant; those whose parents have died are the watcher's children by then."""
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
    """The process ids of a process's children; none if it is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
