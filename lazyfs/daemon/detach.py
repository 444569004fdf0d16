"""From a command to a daemon: the command returns when the daemon says that it works, or why not.

The fork happens before any thread, lmdb environment or event loop exists: none of them survives one.

Until it is ready the daemon stays in the process group of the command. The kernel tells by it who works for
an automounter (automount, systemd's automount units) and may walk over the mount point that others wait for;
a daemon outside would wait for the very mount it is making.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

from lazyfs.core.errors import LazyfsError, UsageError

Ready = Callable[[], None]


class StartFailed(LazyfsError):
    """The daemon ended before it was ready; carries its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(work: Callable[[Ready], None], log: str | None) -> None:
    """Forks; the child runs `work` with a call that says it is ready; the parent returns then.

    The child's stdout and stderr go to the file `log` (append) or nowhere. Raises StartFailed with the
    child's message and exit code if it ends earlier.
    """
    target = open_log(log)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        _become_daemon(work, target, writing)
    os.close(writing)
    os.close(target)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    answer: dict[str, Any] = json.loads(said) if said else {}
    if not answer.get("ready"):
        raise StartFailed(
            answer.get("error", "the daemon ended without a word; try --foreground"),
            answer.get("exit_code", 1),
        )


def open_log(path: str | None) -> int:
    """A descriptor to append to; raises UsageError."""
    try:
        return os.open(path or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise UsageError(f"--log {path}: {error.strerror}") from None


def _become_daemon(work: Callable[[Ready], None], target: int, writing: int) -> NoReturn:
    status = 1
    try:
        if os.fork():
            os._exit(0)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(nothing)
        os.close(target)

        def ready() -> None:
            os.setsid()  # from here on neither a terminal nor an automounter takes the daemon for its own
            starter.write(b'{"ready": true}')
            starter.close()

        with os.fdopen(writing, "wb", buffering=0) as starter:
            status = _report_failure(lambda: work(ready), starter)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _report_failure(work: Callable[[], None], starter: BinaryIO) -> int:
    """The exit code; a failure goes to the log, and to the starter until `starter` is closed."""
    try:
        work()
        return 0
    except LazyfsError as error:
        message, status = str(error), error.exit_code
    except BaseException as bug:  # noqa: BLE001 - the parent must hear of it, whatever it was
        traceback.print_exc()
        message, status = f"the daemon failed: {type(bug).__name__}: {bug}", 1
    sys.stderr.write(f"lazyfs: {message}\n")
    if not starter.closed:
        with suppress(OSError):  # the starter was killed
            starter.write(json.dumps({"error": message, "exit_code": status}).encode())
    return status
