"""The process between ours and the runtime, which ends all other processes if ours is killed.

A runtime can ask the kernel to end it with its parent, but in its first milliseconds it has not asked yet,
nor has its own child. SIGKILL to our process in that time would leave the program running. So the kernel
tells the watcher when our process ends; the watcher adopts the processes that the runtime leaves, and kills
them all.
"""

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from lazyfs.runtimes.joined_directories import CompletedImage, complete

_TO_ALL = frozenset({signal.SIGINT, signal.SIGQUIT})
"""Signals that a terminal sends to all processes of a job."""
FORWARDED = _TO_ALL | {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT}
_OUR_END = signal.SIGRTMIN + 5
"""The signal that the kernel sends to the watcher when our process ends; it is not forwarded."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True, slots=True)
class WatchedCommand:
    """A command that the watcher runs."""

    argv: list[str]
    executable: str
    user: tuple[int, int] | None
    descriptors: tuple[int, ...]
    """Descriptors that the command inherits beside the standard streams."""
    image: CompletedImage | None
    """The image to be completed before the command is started."""
    detach: Callable[[], None]
    """Called in the new process before it becomes the command."""
    programs: Callable[[int], list[int]]
    """A function from the command's process id to the processes that get the signals."""
    environment: Mapping[str, str] = field(default_factory=dict)
    scratch: str | None = None
    """A directory that is made for the command's user, and removed when every process has ended."""


def watch(command: WatchedCommand, ours: int, answer: int, mask: set[signal.Signals]) -> None:
    """Runs the command to its end and exits; to be called in a fork of the process `ours`.

    Writes JSON to the descriptor `answer`: {"code": N} as in Popen.returncode, or {"error": text}. Signals to
    this process are passed on to the programs; the caller has blocked all of these signals already. `mask`:
    the signal mask of the command.
    """
    result: dict[str, int | str] = {"error": "the watcher ended early"}
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
            result = {"code": _run(command, mask)}
    except (OSError, subprocess.SubprocessError) as error:
        result = {"error": str(error)}
    finally:
        _end_all()
        _remove_scratch(command)
        with suppress(BrokenPipeError):
            os.write(answer, json.dumps(result).encode())
        os._exit(0)


def _make_scratch(command: WatchedCommand) -> None:
    if command.scratch is not None:
        os.mkdir(command.scratch, 0o700)
        if command.user is not None:
            os.chown(command.scratch, *command.user)


def _remove_scratch(command: WatchedCommand) -> None:
    """Removes the scratch directory. Its files were in memory, which has gone with the processes."""
    if command.scratch is not None:
        with suppress(OSError):
            os.rmdir(command.scratch)


def _run(command: WatchedCommand, mask: set[signal.Signals]) -> int:
    def enter() -> None:
        command.detach()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    user, group = (None, None) if command.user is None else command.user
    process = subprocess.Popen(
        command.argv,
        executable=command.executable,
        env=command.environment,
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
    """Kills every descendant. Processes whose parents have died become the watcher's children meanwhile."""
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
    """Returns the ids of a process's children, whichever of its threads made them; none if the process is
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
