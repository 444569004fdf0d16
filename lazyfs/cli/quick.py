"""Runs, without click, the commands that every job starts with, if the command line is certainly correct.
Passes all other command lines to `main`."""

import os
import sys
from collections.abc import Callable

from lazyfs.cli.ends import begin, exit_code_of
from lazyfs.cli.options import read_quickly
from lazyfs.system.clean_start import raise_when_interrupted


def main(argv: list[str] | None = None, also_tell: Callable[[str], None] | None = None) -> int:
    """Runs a command line, that of this process by default, and returns the exit code. `also_tell`: called
    with the message of an error. A command that was run without click does not return, but ends the process
    at once: an orderly shutdown of the interpreter takes 8 ms."""
    words = sys.argv[1:] if argv is None else argv
    command = _understood(words)
    if command is not None:
        begin()
        if words[0] != "run":
            raise_when_interrupted()
        code = exit_code_of(command, also_tell=also_tell)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    from lazyfs.cli.main import main as with_click

    return with_click(argv, also_tell)


def _understood(words: list[str]) -> Callable[[], object] | None:
    """Returns a function that carries out the command line; None for one that click has to read."""
    if words[:1] == ["run"]:
        from lazyfs.cli import run_program

        line = read_quickly(run_program.OPTIONS, words[1:])
        if line is not None and line[0]:
            (image, *arguments), options = line
            return lambda: run_program.run_program(image, tuple(arguments), **options)
    elif words[:1] == ["mount"]:
        _import_msgspec()
        from lazyfs.cli import mount_program

        line = read_quickly(mount_program.OPTIONS, words[1:])
        if line is not None:
            places, values = line
            return lambda: mount_program.mount_program(places, **values)
    return None


def _import_msgspec() -> None:
    """Imports msgspec as if typing_extensions were not installed: from Python 3.11 on, msgspec finds the same
    names in typing. typing_extensions would import inspect, ast and dis, 8 ms in all."""
    if "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment] # its import fails now
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]
