"""The beginning and the end of every command: prepares the streams, and turns an error into one line and an
exit code."""

import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from lazyfs.core.errors import LazyfsError
from lazyfs.system import clean_start
from lazyfs.system.command_line import hide_accounts


def begin() -> None:
    """Prepares the process: opens missing standard streams, resets SIGCHLD, and hides the accounts in its
    command line."""
    clean_start.open_standard_streams()
    hide_accounts()
    clean_start.expect_children()
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:  # the stream was closed
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names are bytes that the locale may be unable to encode
            stream.reconfigure(errors="surrogateescape" if stream.encoding == "utf-8" else "backslashreplace")


def exit_code_of(
    command: Callable[[], object], *, debug: bool = False, also_tell: Callable[[str], None] | None = None
) -> int:
    """Runs a command and returns its exit code. Prints a LazyfsError as one line on stderr, and passes its
    message to `also_tell`; a full disk behind stdout is such an error too. `debug`: raises the error
    instead."""
    try:
        result = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        _say("lazyfs: interrupted")
        return 130
    except LazyfsError as error:
        if debug:
            raise
        _say(f"lazyfs: {error}")
        if also_tell:
            also_tell(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 141
    except OSError as error:
        if not _is_lost(sys.stdout) and not _is_lost(sys.stderr):
            raise
        _say(f"lazyfs: what was printed is lost: {error.strerror}")
        return 1
    return result if isinstance(result, int) else 0


def _is_lost(stream: TextIO) -> bool:
    """Returns True if what was printed on a stream cannot be written, on a full disk for example. Then the
    stream leads nowhere from now on: Python would try again at its end, and end with code 120."""
    try:
        stream.write("\n")  # an unbuffered stream has nothing left to be flushed
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return True
    return False


def _say(line: str) -> None:
    from lazyfs.cli.say import say  # click, which a start that goes well does without

    try:
        say(line, err=True)
    except OSError:
        if not _is_lost(sys.stderr):
            raise
