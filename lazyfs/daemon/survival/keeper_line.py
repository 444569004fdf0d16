"""The line between a daemon and the keeper of its mount: a pair of connected sockets."""

import array
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import subprocess

NAME = "lazyfs-keeper"
"""The name of a keeper's process in `ps`, `top` and /proc."""
HOLD, END, SERVE = b"hold", b"end", b"serve"
"""The messages on the line. HOLD comes with the descriptors of the device and of the table of requests, and
means that the sender serves this mount from now on. END means that the mount is over. The keeper sends SERVE
when it has entered requests into the table."""


class Holder(Protocol):
    """Holds a mount's descriptors while no daemon does: a keeper, or systemd."""

    @property
    def socket(self) -> socket.socket | None:
        """The socket on which the holder says that it has entered requests into the request table (SERVE);
        None if it never does."""
        ...

    @property
    def holds(self) -> bool:
        """True if this holder keeps the descriptors that `hold` gives it."""
        ...

    def hold(self, device: int, table: int) -> None:
        """Takes copies of the mount's descriptors, and holds them until `end` or the mount's end."""
        ...

    def begin_anew(self, program: Sequence[str]) -> None:
        """Starts another holder in place of one that was killed. Blocks. `program`: the start of the new
        holder's command line. Raises OSError."""
        ...

    def end(self) -> None:
        """Drops the descriptors: the mount is over."""
        ...


class KeeperLine:
    """The daemon's end of the line to its keeper. Implements `Holder`. Without a keeper, every call does
    nothing."""

    def __init__(self, line: socket.socket | None) -> None:
        self._line = line
        self._process: subprocess.Popen[bytes] | None = None
        """The keeper, if this process has started it: kept so that it can be reaped."""

    @property
    def socket(self) -> socket.socket | None:
        """The socket on which the keeper says that it has entered requests into the request table (SERVE);
        None without a keeper."""
        return self._line

    @property
    def holds(self) -> bool:
        """True if there is a keeper."""
        return self._line is not None

    def hold(self, device: int, table: int) -> None:
        """Hands the mount's descriptors to the keeper, which holds them until `end` or the mount's end."""
        descriptors = array.array("i", [device, table]).tobytes()
        self._send(HOLD, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])

    def end(self) -> None:
        """Tells the keeper to end: the mount is over."""
        self._send(END, [])
        if self._line is not None:
            self._line.close()
            self._line = None

    def begin_anew(self, program: Sequence[str]) -> None:
        """Starts another keeper in place of one that was killed. Blocks. `program`: the start of the new
        keeper's command line. Raises OSError."""
        import subprocess  # not above: a mount is spared its modules until it answers

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
