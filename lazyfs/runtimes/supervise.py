"""Runs a runtime's command line to its end and forwards signals to the program."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

from lazyfs.core.errors import LazyfsError
from lazyfs.runtimes.enclosure import Enclosure
from lazyfs.runtimes.protocol import RuntimeExit, RuntimeFailed, RuntimePlan
from lazyfs.runtimes.watcher import FORWARDED, WatchedCommand, watch
from lazyfs.system.control_groups import group_below_own
from lazyfs.system.durable_file import write_all

_STATUS_LIMIT = 1 << 16


def supervise(
    plan: RuntimePlan,
    executable: str,
    detach: Callable[[int], None],
    programs: Callable[[int], list[int]],
) -> RuntimeExit:
    """Runs the plan to its end with this process's stdin, stdout and stderr.

    The runtime has a session of its own, so that the program cannot push characters into the caller's
    terminal. Its environment is that of the plan's enclosure. Without an enclosure the environment is empty,
    because the program could read it in /proc/1/environ.

    `executable`: the runtime's file. `detach`: called in the new process before that process becomes the
    runtime, with the descriptor for the runtime's status; gives up what the program must not have, such as
    the session keyring. `programs`: returns the ids of the processes that get the signals, given the
    runtime's process id. Raises LazyfsError if the process cannot be made, RuntimeFailed if the plan's
    Attendant raises it.
    """
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(unnamed_file())
        numbers = {RuntimePlan.STATUS: status}
        for placeholder, content in plan.files.items():
            numbers[placeholder] = stack.enter_context(unnamed_file(content))
        values = {placeholder: str(number) for placeholder, number in numbers.items()}
        for option, content in plan.paths.items():
            number = numbers[option] = stack.enter_context(unnamed_file(content))
            values[option] = f"{option}/proc/self/fd/{number}"
        argv = [*(values.get(option, option) for option in plan.options), *plan.command]
        descriptors = (*numbers.values(), *(part.number for part in plan.held))
        enclosure = plan.enclosure
        command = WatchedCommand(
            argv,
            executable,
            plan.user,
            descriptors,
            plan.completed,
            partial(detach, status),
            programs,
            plan.environment if enclosure is None else enclosure.environment,
            None if enclosure is None else enclosure.scratch,
            plan.attendant,
            status,
            plan.limits,
            _own_group(enclosure),
            enclosure is not None,
        )
        code, limit = _run(command)
        os.lseek(status, 0, os.SEEK_SET)
        return RuntimeExit(code, os.read(status, _STATUS_LIMIT), limit)


def _own_group(enclosure: Enclosure | None) -> str | None:
    if enclosure is None or not enclosure.own_group:
        return None
    return group_below_own(os.path.basename(enclosure.scratch))


def _run(command: WatchedCommand) -> tuple[int, str | None]:
    """Starts the watcher, and forwards signals to it until it ends. Returns the runtime's exit code and the
    limit that ended the program, or None."""
    waited = {signal.SIGCHLD, *FORWARDED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    answer, theirs = os.pipe()
    try:
        ours = os.getpid()
        watcher = os.fork()
        if watcher == 0:
            watch(command, ours, theirs, {signal.Signals(number) for number in before})
        os.close(theirs)
        while os.waitpid(watcher, os.WNOHANG) == (0, 0):
            received = signal.sigwaitinfo(waited).si_signo
            if received != signal.SIGCHLD:
                os.kill(watcher, received)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with open(answer, "rb") as file:
        said = file.read()
    result = json.loads(said or b'{"error": "the process that watches it was killed"}')
    if "error" in result:
        raise LazyfsError(f"{command.argv[0]} cannot be started: {result['error']}")
    if "failed" in result:
        raise RuntimeFailed(result["failed"])
    return int(result["code"]), result["limit"]


@contextlib.contextmanager
def unnamed_file(content: bytes = b"") -> Iterator[int]:
    """Yields a descriptor of a file in memory with this content, at its beginning; closes it after the block.
    The content may be secret, so it is on no disk; a pipe would block at 64 KiB."""
    number = os.memfd_create("lazyfs-run")
    try:
        write_all(number, content)
        os.lseek(number, 0, os.SEEK_SET)
        yield number
    finally:
        os.close(number)
