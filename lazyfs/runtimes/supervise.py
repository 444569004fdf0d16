"""Runs a runtime's command line to its end and hands signals on to the program."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

from lazyfs.core.errors import LazyfsError
from lazyfs.runtimes.protocol import RuntimeExit, RuntimePlan
from lazyfs.runtimes.watcher import FORWARDED, WatchedCommand, watch
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
    terminal. Its environment is that of the plan's enclosure. Without an enclosure it is empty, because the
    program could read it in /proc/1/environ.

    `executable`: the runtime's file. `detach`: called in the new process before it becomes the runtime, to
    give up resources that the program must not have, with the descriptor of the status. `programs`: a
    function from the runtime's process id to the processes that get the signals. Raises LazyfsError if the
    process cannot be made.
    """
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(_unnamed_file())
        numbers = {RuntimePlan.STATUS: status}
        for placeholder, content in plan.files.items():
            numbers[placeholder] = stack.enter_context(_unnamed_file(content))
        argv = [*(str(numbers.get(option, option)) for option in plan.options), *plan.command]
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
            {} if enclosure is None else enclosure.environment,
            None if enclosure is None else enclosure.scratch,
        )
        code = _run(command)
        os.lseek(status, 0, os.SEEK_SET)
        return RuntimeExit(code, os.read(status, _STATUS_LIMIT))


def _run(command: WatchedCommand) -> int:
    """Starts the watcher and hands signals on to it until it ends."""
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
    return int(result["code"])


@contextlib.contextmanager
def _unnamed_file(content: bytes = b"") -> Iterator[int]:
    """Opens a file in memory for the block, at its beginning. The content may be secret, so it is on no disk;
    a pipe would block at 64 KiB."""
    number = os.memfd_create("lazyfs-run")
    try:
        write_all(number, content)
        os.lseek(number, 0, os.SEEK_SET)
        yield number
    finally:
        os.close(number)
