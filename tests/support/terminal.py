"""A terminal for tests: commands that have one as their controlling terminal, and a keyboard for it."""

import fcntl
import os
import pty
import subprocess
import termios
from collections.abc import Mapping, Sequence
from typing import Any, Self

INTERRUPT = b"\x03"
"""The character that Ctrl-C sends."""


class Terminal:
    """A pseudo terminal, closed at the end of the context."""

    def __init__(self) -> None:
        self.keyboard, self.number = pty.openpty()
        """The descriptors of both sides: what is written to `keyboard` is read from `number`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.keyboard)
        os.close(self.number)

    def settings(self) -> list[Any]:
        """Returns the terminal's settings as of now (tcgetattr(3))."""
        return termios.tcgetattr(self.number)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Starts a command as a shell does in the foreground. stdin and stderr are this terminal, stdout is a
        pipe."""
        return subprocess.Popen(
            command,
            stdin=self.number,
            stdout=subprocess.PIPE,
            stderr=self.number,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
            env=environment,
            cwd="/",
        )

    def press(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)
