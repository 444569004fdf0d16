"""Starts a daemon from a command. The command returns when the daemon is ready, or with the daemon's error.

The fork happens before any thread, LMDB environment or event loop exists: none of them survives a fork.

Until it is ready, the daemon stays in the process group of the command. By this group the kernel recognises
the processes of an automounter (automount, systemd's automount units). Only they may pass the mount point
while others wait for the mount; a daemon outside the group would wait for the mount that it is making. Until
it is ready, the daemon also ends if the command ends: a user who gave up a mount must not find it made later.
"""

import fcntl
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from lazyfs.core.errors import LazyfsError
from lazyfs.core.printable import escaped
from lazyfs.daemon.log import open_log
from lazyfs.system import clean_start, namespaces
from lazyfs.system.detachment import leave_session_keyring

if TYPE_CHECKING:
    from lazyfs.daemon.survival.keeper_line import KeeperLine

Ready = Callable[[Sequence[str]], None]
"""A function that is called once, when the mount works, with notes for the operator, a line each."""


COURTESY = 0.02
"""Seconds for which a daemon that is ready leaves the processor to the command that started it."""


class StartFailed(LazyfsError):
    """The daemon ended before it was ready. Carries the daemon's exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(work: Callable[[Ready, "KeeperLine"], None], log: str | None, *, keeper: bool = True) -> list[str]:
    """Runs `work` in a forked child, and returns the child's notes once it is ready.

    The child is not waited for: init gets it when this command ends, which is at once. A second fork, to give
    it to init sooner, would cost 4 ms of processor time.

    `work` gets two arguments: a function that the child calls when it is ready, and the child's line to a
    keeper. A keeper is made unless `keeper` is false. The child's stdout and stderr are appended to the file
    `log`, or discarded without one. Raises StartFailed, with the child's message and exit code, if the child
    ends before it is ready.
    """
    # Before the forks: every page that an import changes would be copied for the other process (2 ms in all).
    from lazyfs.daemon.survival import keeper as keep
    from lazyfs.daemon.survival.keeper_line import KeeperLine

    target = open_log(log)
    reading, writing = os.pipe()
    starter, ours = os.pipe()  # the kernel closes `ours` when this process ends in any way
    sys.stdout.flush()
    sys.stderr.flush()
    if not os.fork():
        _become_daemon(work, target, writing, starter, lambda: KeeperLine(keep.fork() if keeper else None))
    for descriptor in (writing, starter, target):
        os.close(descriptor)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.close(ours)
    return _notes(said)


def start_child(work: Callable[[Ready], None], log: str | None) -> tuple[int, list[str]]:
    """Runs `work` as `run` does, but without a keeper; the kernel ends the child when this process ends.
    Returns the child's id and its notes. Raises StartFailed."""
    target = open_log(log)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _become_child(work, target, writing)
    os.close(writing)
    os.close(target)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    try:
        return child, _notes(said)
    except StartFailed:
        os.waitpid(child, 0)
        raise


def _notes(said: bytes) -> list[str]:
    """Returns the notes of a daemon's answer. Raises StartFailed."""
    answer: dict[str, Any] = json.loads(said) if said else {}
    if not answer.get("ready"):
        raise StartFailed(
            answer.get("error", "the daemon ended without a word; try --foreground"),
            answer.get("exit_code", 1),
        )
    return [str(note) for note in answer["notes"]]


def _become_child(work: Callable[[Ready], None], target: int, writing: int) -> NoReturn:
    status = 1
    try:
        namespaces.end_with_parent()
        os.setsid()
        _clean(target, writing)
        with os.fdopen(writing, "wb", buffering=0) as pipe:

            def ready(notes: Sequence[str]) -> None:
                pipe.write(json.dumps({"ready": True, "notes": list(notes)}).encode())
                pipe.close()

            status = _report_failure(lambda: work(ready), pipe)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become_daemon(
    work: Callable[[Ready, "KeeperLine"], None],
    target: int,
    writing: int,
    starter: int,
    make_line: "Callable[[], KeeperLine]",
) -> NoReturn:
    status = 1
    try:
        _clean(target, writing, starter)
        line = make_line()
        guard = _StarterGuard(starter)
        with os.fdopen(writing, "wb", buffering=0) as pipe:

            def ready(notes: Sequence[str]) -> None:
                guard.end()
                os.setsid()  # from here on the daemon belongs to no terminal and no automounter
                pipe.write(json.dumps({"ready": True, "notes": list(notes)}).encode())
                pipe.close()
                guard.let_go()

            status = _report_failure(lambda: work(ready, line), pipe)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _clean(target: int, *kept: int) -> None:
    os.chdir("/")
    os.umask(0o022)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    clean_start.close_descriptors(kept)
    leave_session_keyring()
    clean_start.default_signals()
    clean_start.raise_limits()


class _StarterGuard:
    """Sends this daemon SIGTERM if the command that started it ends before the daemon is ready. Needs no
    thread, because the process still forks (`system.bounded_look`)."""

    def __init__(self, starter: int) -> None:
        """`starter`: the reading end of a pipe. Only the command has the other end, and it never writes."""
        self._starter = starter
        fcntl.fcntl(starter, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(starter, fcntl.F_SETSIG, signal.SIGTERM)
        fcntl.fcntl(starter, fcntl.F_SETFL, os.O_ASYNC)  # the other end closing sends the signal from now on
        if select.select([starter], [], [], 0)[0]:  # the other end had closed before
            os.kill(os.getpid(), signal.SIGTERM)

    def end(self) -> None:
        """Stops watching the command, which may end from now on."""
        fcntl.fcntl(self._starter, fcntl.F_SETFL, 0)

    def let_go(self) -> None:
        """Waits, for at most COURTESY seconds, until the command that started the daemon has ended: the
        imports that follow would take the processor from the command."""
        select.select([self._starter], [], [], COURTESY)
        os.close(self._starter)


def _report_failure(work: Callable[[], None], starter: BinaryIO) -> int:
    """Runs `work` and returns the exit code. Writes a failure to the log, and to the command that started the
    daemon (`starter`: the pipe to that command) unless the pipe is closed."""
    try:
        work()
        return 0
    except LazyfsError as error:
        message, status = str(error), error.exit_code
    except BaseException as bug:  # noqa: BLE001 - the parent must hear of every failure
        traceback.print_exc()
        message, status = f"the daemon failed: {type(bug).__name__}: {bug}", 1
    sys.stderr.write(escaped(f"lazyfs: {message}") + "\n")
    if not starter.closed:
        with suppress(OSError):  # the starter was killed
            starter.write(json.dumps({"error": message, "exit_code": status}).encode())
    return status
