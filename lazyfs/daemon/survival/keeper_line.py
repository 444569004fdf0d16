"""A daemon's line to the keeper of its mount."""

import array
import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress

HOLD, END, SERVE = b"hold", b"end", b"serve"
"""Messages. HOLD, with the descriptors of the device and of the table of requests: the sender serves this
mount from now on. END: the mount is over. SERVE, from the keeper: the table has requests that it has read."""


class KeeperLine:
    """The daemon's end. Without a keeper, every call does nothing."""

    def __init__(self, line: socket.socket | None) -> None:
        self._line = line
        self._process: subprocess.Popen[bytes] | None = None
        """The keeper, if this process has started it: kept so that it can be reaped."""

    @property
    def socket(self) -> socket.socket | None:
        """The socket that SERVE comes from; None without a keeper."""
        return self._line

    def hold(self, device: int, table: int) -> None:
        """Hands the mount's descriptors to the keeper, which holds them until `end` or the mount's end."""
        descriptors = array.array("i", [device, table]).tobytes()
        self._send(HOLD, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])

    def end(self) -> None:
        """Lets the keeper end: the mount is over."""
        self._send(END, [])
        if self._line is not None:
            self._line.close()
            self._line = None

    def begin_anew(self, program: Sequence[str]) -> None:
        """Starts another keeper, since this one was killed. Blocks. `program`: the start of its command
        line. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [
                *program,
                "-m",
                "lazyfs.daemon.survival.keeper",
                str(theirs.fileno()),
                str(os.getpid()),
            ]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        if self._line is not None:
            self._line.close()
        self._line = ours

    def _send(self, message: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        if self._line is not None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the keeper was killed
                self._line.sendmsg([message], ancillary)
