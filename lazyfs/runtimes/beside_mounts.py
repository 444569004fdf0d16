"""Runs a command with mounts that no other program sees: `lazyfs exec`. The processes, parents on the left:

    this process - watcher - keeper - daemon of each mount
                                    - door - init - the command

The watcher (`watcher`) ends everything below it if this process is killed. The keeper is in a user and a
mount namespace in which it may mount; it is not the keeper of a mount's descriptors. The daemons stay in the
machine's pid namespace, because they share the node's cache with other processes. The door makes the
command's namespaces: the command runs with the caller's ids, in a pid namespace of its own if the machine
allows one. When the init, process 1 there, ends, the kernel kills all that the command has left. Each process
asks the kernel to kill it when its parent ends. So if any of them is killed, all processes below it end too,
and the mounts go with them.
"""

import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from lazyfs.core.errors import LazyfsError
from lazyfs.daemon import runtime_directory
from lazyfs.daemon.detach import Ready, start_child
from lazyfs.runtimes.command_checks import NOT_EXECUTABLE, NOT_FOUND
from lazyfs.runtimes.mount_points import MissingPoint, make
from lazyfs.runtimes.protocol import RUNTIME_FAILED, ProgramEnd, RuntimePlan
from lazyfs.runtimes.supervise import supervise
from lazyfs.runtimes.watcher import children, mount_namespace
from lazyfs.system import namespaces
from lazyfs.system.clean_start import close_descriptors
from lazyfs.system.user_namespace import is_root_of_node

_END_SECONDS = 5
"""Grace period in seconds: after the command's end, the daemons may end by themselves for this time."""


@dataclass(frozen=True, slots=True)
class PrivateMount:
    """A mount that is made for the command alone."""

    mountpoint: str
    serve: Callable[[Ready], None]
    """A function that mounts, reports this through its argument, and serves the mount until SIGTERM."""
    log: str | None
    """The file that the daemon's log is appended to."""


def run(
    mounts: Sequence[PrivateMount],
    points: Sequence[MissingPoint],
    command: Sequence[str],
    environment: Mapping[str, str],
    warn: Callable[[str], None],
) -> ProgramEnd:
    """Runs the command to its end on this process's streams. `points`: missing mount points, which are made
    first. `warn`: called at the end with each note of the mounts' daemons.

    Raises LazyfsError if a namespace or a mount cannot be made; the command has not been started then.
    """
    plan = RuntimePlan(("lazyfs exec",), (), tuple(command))
    os.close(os.open(runtime_directory.directory(), os.O_PATH))  # made now if it is missing: it stays

    def detach(status: int) -> None:
        _keep(mounts, points, command, environment, status)

    ended = supervise(plan, "/proc/self/exe", detach, _programs)
    said = [json.loads(line) for line in ended.status.splitlines()]
    for note in (note for one in said for note in one.get("notes", ())):
        warn(note)
    if (failure := next((one["error"] for one in said if "error" in one), None)) is not None:
        raise ExecFailed(failure)
    code = next((one["code"] for one in said if "code" in one), None)
    if code is None:  # a signal came before the command, or its processes were killed
        return ProgramEnd(128 - ended.code if ended.code < 0 else RUNTIME_FAILED, started=False)
    return ProgramEnd(code, started=True)


class ExecFailed(LazyfsError):
    """The mounts cannot be made, so the command was not started."""

    exit_code = RUNTIME_FAILED


def _programs(keeper: int) -> list[int]:
    """Returns the process id of the command, in a list; an empty list before it is started.

    The command is a grandchild of the door, the keeper's youngest child. The door has a mount namespace of
    its own. Daemons have the keeper's, so a daemon that happens to be the youngest child is not taken for the
    door.
    """
    outside = mount_namespace(keeper)
    doors = [child for child in children(keeper)[-1:] if mount_namespace(child) != outside]
    return [program for door in doors for init in children(door) for program in children(init)]


def _keep(
    mounts: Sequence[PrivateMount],
    points: Sequence[MissingPoint],
    command: Sequence[str],
    environment: Mapping[str, str],
    status: int,
) -> NoReturn:
    """The keeper: makes the namespaces and mounts, and waits for the command's end. Runs in a new process.
    `status`: the descriptor to which errors and notes are written, one JSON object a line."""
    daemons: list[int] = []
    try:
        os.set_inheritable(status, False)
        close_descriptors((status,))
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        user = (os.geteuid(), os.getegid())
        _enter(user)
        make(points)
        namespaces.mount("tmpfs", runtime_directory.directory(), "tmpfs", namespaces.NOSUID, "mode=0700")
        for mount in mounts:
            pid, notes = start_child(mount.serve, mount.log)
            daemons.append(pid)
            _say(status, notes=[f"{mount.mountpoint}: {note}" for note in notes])
        own = _own_processes(user)
        door = _fork()
        if not door:
            _open_door(user, command, environment, status, own)
        os.waitpid(door, 0)
    except LazyfsError as error:
        _say(status, error=str(error))
    except OSError as error:
        _say(status, error=_words(error))
    finally:
        _end(daemons)
        os._exit(0)


def _enter(user: tuple[int, int]) -> None:
    """Enters a new mount namespace. For a user other than root, also enters a new user namespace, in which
    this process is root. `user`: the caller's user id and group id."""
    if is_root_of_node():
        namespaces.unshare(namespaces.NEW_MOUNTS)
        namespaces.mount("", "/", flags=namespaces.RECURSIVE | namespaces.SLAVE)
    else:
        namespaces.unshare(namespaces.NEW_USER | namespaces.NEW_MOUNTS)
        namespaces.map_numbers((0, 0), user)
    namespaces.end_with_parent()


def _open_door(
    user: tuple[int, int], command: Sequence[str], environment: Mapping[str, str], status: int, own: bool
) -> NoReturn:
    """The door: moves into new namespaces for the command, and starts the init. Runs in a new process. `own`:
    the result of `_own_processes`."""
    try:
        _enter_inner(user, own)
        init = _fork()
        if not init:
            _be_init(command, environment, status, own)
        os.waitpid(init, 0)
    except OSError as error:
        _say(status, error=_words(error))
    os._exit(0)


def _own_processes(user: tuple[int, int]) -> bool:
    """Returns True if this machine allows a pid namespace with a /proc of its own; some containers do not.

    The keeper makes this trial. If the door made it, `_programs` would take the trial's processes for the
    init and the command, and a signal sent meanwhile would go to them and be lost.
    """
    trial = os.fork()
    if not trial:
        code = 1
        with suppress(OSError):
            _enter_inner(user, True)
            inner = os.fork()
            if not inner:
                with suppress(OSError):
                    _mount_proc()
                    code = 0
                os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
        os._exit(code)
    return os.waitpid(trial, 0)[1] == 0


def _enter_inner(user: tuple[int, int], own_processes: bool) -> None:
    flags = namespaces.NEW_MOUNTS | (namespaces.NEW_PIDS if own_processes else 0)
    if is_root_of_node():
        namespaces.unshare(flags)
        namespaces.mount("", "/", flags=namespaces.RECURSIVE | namespaces.SLAVE)
    else:
        outer = os.geteuid(), os.getegid()
        namespaces.unshare(flags | namespaces.NEW_USER)
        namespaces.map_numbers(user, outer)
    namespaces.end_with_parent()


def _mount_proc() -> None:
    namespaces.mount("proc", "/proc", "proc", namespaces.NOSUID | namespaces.NODEV | namespaces.NOEXEC)


def _be_init(
    command: Sequence[str], environment: Mapping[str, str], status: int, own_processes: bool
) -> NoReturn:
    """The init: starts the command, reaps orphans until the command ends, and reports the command's exit code
    on the descriptor `status`. Runs in a new process. `own_processes`: the result of `_own_processes`."""
    try:
        if own_processes:
            _mount_proc()
        program = _fork()
        if not program:
            _become(command, environment)
        ended = -1
        while ended != program:
            ended, state = os.wait()
        code = os.waitstatus_to_exitcode(state)
        _say(status, code=code if code >= 0 else 128 - code)
    except OSError as error:
        _say(status, error=_words(error))
    os._exit(0)


def _become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    try:
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - no shell is wanted
    except FileNotFoundError:
        code, reason = NOT_FOUND, "is not there"
    except OSError as error:
        code, reason = NOT_EXECUTABLE, str(error.strerror)
    os.write(2, f"lazyfs: command {command[0]} {reason}\n".encode(errors="replace"))
    os._exit(code)


def _fork() -> int:
    """Forks, and returns what os.fork returns. The kernel kills the child when this process ends."""
    parent = os.getpid()
    child = os.fork()
    if not child:
        namespaces.end_with_parent()
        if os.getppid() not in (parent, 0):  # 0: the parent is outside of this pid namespace
            os._exit(RUNTIME_FAILED)
    return child


def _end(daemons: Sequence[int]) -> None:
    """Sends the daemons SIGTERM and waits for them, so that they write what they hold in memory and leave the
    cache in order."""
    for pid in daemons:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    last = time.monotonic() + _END_SECONDS
    for pid in daemons:
        with suppress(ProcessLookupError):
            select.select([os.pidfd_open(pid)], [], [], max(last - time.monotonic(), 0))


def _say(status: int, **fields: object) -> None:
    os.write(status, json.dumps(fields).encode() + b"\n")


def _words(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
