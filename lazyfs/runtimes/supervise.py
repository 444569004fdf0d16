"""Runs a runtime's command line to its end and hands signals on to the program."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator

from lazyfs.core.errors import LazyfsError
from lazyfs.runtimes.protocol import RuntimeExit, RuntimePlan

_TO_ALL = frozenset({signal.SIGINT, signal.SIGQUIT})
"""What a terminal sends to all of a job's processes."""
_FORWARDED = _TO_ALL | {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT}
_STATUS_LIMIT = 1 << 16


def supervise(
    plan: RuntimePlan,
    executable: str,
    detach: Callable[[], None],
    programs: Callable[[int], list[int]],
) -> RuntimeExit:
    """Runs the plan with this process's stdin, stdout and stderr.

    It gets a session of its own, so that the program cannot push characters into the caller's terminal, and
    nothing of the caller's environment, which the program could read in /proc/1/environ.

    `executable` is the runtime's file. `detach` is called in the new process before it becomes the runtime,
    and gives up what the program must not have. `programs` gives the processes that a signal is meant for
    from the runtime's process id. Raises LazyfsError if the process cannot be made so.
    """
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(_unnamed_file())
        numbers = {RuntimePlan.STATUS: status}
        for placeholder, content in plan.files.items():
            numbers[placeholder] = stack.enter_context(_unnamed_file(content))
        options = [str(numbers.get(option, option)) for option in plan.options]
        command = [*options, *plan.command]
        code = _run(command, executable, plan.user, numbers.values(), detach, programs)
        os.lseek(status, 0, os.SEEK_SET)
        return RuntimeExit(code, os.read(status, _STATUS_LIMIT))


def _run(
    argv: list[str],
    executable: str,
    user: tuple[int, int] | None,
    descriptors: Iterable[int],
    detach: Callable[[], None],
    programs: Callable[[int], list[int]],
) -> int:
    waited = {signal.SIGCHLD, *_FORWARDED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)

    def enter() -> None:
        detach()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    number, group = (None, None) if user is None else user
    try:
        process = subprocess.Popen(
            argv,
            executable=executable,
            env={},
            pass_fds=tuple(descriptors),
            start_new_session=True,
            preexec_fn=enter,  # noqa: PLW1509 - no threads here
            user=number,
            group=group,
            extra_groups=None if user is None else (),
        )
        while process.poll() is None:
            received = signal.sigwaitinfo(waited)
            if received.si_signo != signal.SIGCHLD:
                _forward(signal.Signals(received.si_signo), programs(process.pid) or [process.pid])
    except (OSError, subprocess.SubprocessError) as error:
        raise LazyfsError(f"{argv[0]} cannot be started: {error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process.returncode


@contextlib.contextmanager
def _unnamed_file(content: bytes = b"") -> Iterator[int]:
    """A descriptor at the file's beginning: a pipe would block at 64 KiB."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file.fileno()


def _forward(number: signal.Signals, programs: list[int]) -> None:
    if number in _TO_ALL:
        programs = [pid for program in programs for pid in _tree(program)]
    for pid in programs:
        with contextlib.suppress(ProcessLookupError):
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
