"""Runs `lazyfs run` without click if the command line is certainly correct; passes all other command lines to
`main`."""

import os
import sys

from lazyfs.cli.ends import begin, exit_code_of


def main() -> int:
    """Runs the command line of this process and returns the exit code. After a program has been run it does
    not return, but ends the process at once: an orderly shutdown of the interpreter takes 8 ms."""
    if sys.argv[1:2] == ["run"]:
        from lazyfs.cli.options import read_quickly
        from lazyfs.cli.run_program import OPTIONS, run_program

        understood = read_quickly(OPTIONS, sys.argv[2:])
        if understood is not None and understood[0]:
            (image, *arguments), values = understood
            begin()
            code = exit_code_of(lambda: run_program(image, tuple(arguments), **values))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    from lazyfs.cli.main import main as with_click

    return with_click()
