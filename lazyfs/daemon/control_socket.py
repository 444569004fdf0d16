"""The file and the listening end of a control socket. Callers wait in its queue until the daemon answers."""

import os
import socket
from contextlib import suppress

import msgspec

from lazyfs.system.socket_paths import address_of

HANDED = "LAZYFS_CONTROL_SOCKET"
"""The environment variable by which a daemon that replaces its program hands over its socket. The value is
`DESCRIPTOR INODE PATH`."""

CALLERS = 1024
"""The largest number of connections that wait to be accepted: as many as a node's jobs and watchdogs open at
one moment."""


class ListeningSocket(msgspec.Struct, frozen=True):
    """A listening socket and the path of its file."""

    plain: socket.socket
    path: str
    inode: int

    def hand_over(self) -> None:
        """Leaves the socket to the program that this process is about to become. That program may have no
        right to make another socket: the daemon has given up root."""
        os.set_inheritable(self.plain.fileno(), True)
        os.environ[HANDED] = f"{self.plain.fileno()} {self.inode} {self.path}"

    def keep(self) -> None:
        """Undoes `hand_over`, because the other program could not be started in this process."""
        os.set_inheritable(self.plain.fileno(), False)
        os.environ.pop(HANDED, None)

    def close(self) -> None:
        """Closes the socket, and removes its file unless a later daemon has put another one there."""
        with self.plain, suppress(FileNotFoundError, PermissionError):
            # No other file gets this inode number before the socket is closed.
            if os.lstat(self.path).st_ino == self.inode:
                os.unlink(self.path)


def listen(path: str, *, everybody: bool) -> ListeningSocket:
    """Returns a socket that listens at `path`, for this user or for everybody. A dead daemon's socket there
    is replaced. The file appears at `path` only when the socket already listens."""
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(made)
    before = os.umask(0o111 if everybody else 0o177)
    try:
        with address_of(made) as address:
            plain.bind(address)
    finally:
        os.umask(before)
    plain.listen(CALLERS)
    os.rename(made, path)
    return ListeningSocket(plain, path, os.lstat(path).st_ino)


def handed_over() -> ListeningSocket | None:
    """Returns the socket that this process's earlier program has handed over; None if there is none."""
    with suppress(ValueError, OSError):
        number, inode, path = os.environ.pop(HANDED, "").split(" ", 2)
        os.set_inheritable(int(number), False)
        return ListeningSocket(socket.socket(fileno=int(number)), path, int(inode))
    return None


def remove_dead(path: str) -> None:
    """Removes the socket of a daemon that could not remove it: it was killed, or was no longer root."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line,
        suppress(FileNotFoundError, PermissionError, BlockingIOError),
    ):
        line.setblocking(False)
        try:
            with address_of(path) as address:
                line.connect(address)
        except ConnectionRefusedError:
            os.unlink(path)


def sweep(directory: str) -> None:
    """Removes the sockets of dead daemons from a runtime directory."""
    for name in os.listdir(directory):
        if name.endswith(".sock"):
            remove_dead(os.path.join(directory, name))
