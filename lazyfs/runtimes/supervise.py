"""Starts a planned command, hands signals on to it, and tells its end from the runtime's own failure."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from lazyfs.runtimes.protocol import RuntimePlan

RUNTIME_FAILED = 125
"""Exit code when the program was never started; the one docker and podman use."""

_TO_ALL = frozenset({signal.SIGINT, signal.SIGQUIT})
"""What a terminal sends to all of a job's processes."""
_FORWARDED = _TO_ALL | {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT}


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """How a start ended."""

    exit_code: int
    """The program's own; 128 + N if signal N ended it; RUNTIME_FAILED if it was never started."""
    started: bool
    """False: the runtime failed before the program ran, and said so on stderr."""


def supervise(plan: RuntimePlan) -> ProgramEnd:
    """Runs the plan to its end with this process's stdin, stdout and stderr.

    Call it from the main thread of a process that leaves SIGCHLD alone. The command runs in a session of its
    own, so that it cannot push characters into the caller's terminal; signals sent to this process reach it
    through here.
    """
    with (
        _descriptor(b"".join(os.fsencode(a) + b"\0" for a in plan.arguments)) as arguments,
        _descriptor() as status,
    ):
        numbers = {RuntimePlan.ARGUMENTS_FD: str(arguments), RuntimePlan.STATUS_FD: str(status)}
        options = len(plan.argv) - len(plan.command)
        argv = [numbers.get(a, a) for a in plan.argv[:options]] + list(plan.command)
        waited = {signal.SIGCHLD, *_FORWARDED}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
        try:
            process = subprocess.Popen(
                argv,
                pass_fds=(arguments, status),
                start_new_session=True,
                preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),  # noqa: PLW1509 - no threads here
            )
            while process.poll() is None:
                received = signal.sigwaitinfo(waited)
                if received.si_signo != signal.SIGCHLD:
                    _forward(process.pid, signal.Signals(received.si_signo))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        started = _exited(status)
    if not started:
        return ProgramEnd(RUNTIME_FAILED, started=False)
    code = process.returncode
    return ProgramEnd(code if code >= 0 else 128 - code, started=True)


@contextlib.contextmanager
def _descriptor(content: bytes = b"") -> Iterator[int]:
    """An unnamed file at its beginning: a pipe would block at 64 KiB."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file.fileno()


def _exited(status: int) -> bool:
    """bwrap writes {"exit-code": N} last, and only if the program was executed."""
    os.lseek(status, 0, os.SEEK_SET)
    lines = os.read(status, 65536).decode().splitlines()
    return any("exit-code" in json.loads(line) for line in lines)


def _forward(runtime: int, number: signal.Signals) -> None:
    """To the program: the grandchild of the runtime, below the namespace's init. Else to the runtime."""
    programs = [pid for init in _children(runtime) for pid in _children(init)]
    if number in _TO_ALL:
        programs = [pid for program in programs for pid in _tree(program)]
    for pid in programs or [runtime]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _tree(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield from _tree(child)
    yield pid


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
