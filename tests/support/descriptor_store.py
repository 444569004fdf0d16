"""A stand-in for systemd's side of sd_notify(3): readiness, and the descriptor store of one unit."""

import array
import fcntl
import os
import socket
import subprocess
import threading
from pathlib import Path


class StoreStandIn:
    """A context manager that starts the unit's processes one after another, and keeps the descriptors that
    they hand over."""

    def __init__(self, path: Path) -> None:
        """`path` is the path of the notification socket."""
        self._path = path
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(str(path))
        self._kept: dict[str, int] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "StoreStandIn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(b"END=1", str(self._path))
        self._thread.join(10)
        self._line.close()
        for fd in self._kept.values():
            os.close(fd)

    @property
    def names(self) -> set[str]:
        """The names of the stored descriptors."""
        return set(self._kept)

    def start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        """Starts the unit's process and passes it the stored descriptors. Returns the process once it is
        ready."""
        self._ready.clear()
        stored = dict(self._kept)
        environment = os.environ | {"NOTIFY_SOCKET": str(self._path)}
        if stored:
            environment |= {"LISTEN_FDS": str(len(stored)), "LISTEN_FDNAMES": ":".join(stored)}

        def place() -> None:
            copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in stored.values()]
            for number, fd in enumerate(copies, 3):
                os.dup2(fd, number, inheritable=True)

        process = subprocess.Popen(command, env=environment, preexec_fn=place, close_fds=False)  # noqa: PLW1509
        if not self._ready.wait(60):
            process.kill()
            raise AssertionError("the unit does not say READY=1")
        return process

    def _listen(self) -> None:
        while True:
            message, ancillary, _, _ = self._line.recvmsg(4096, socket.CMSG_SPACE(4))
            fds = array.array("i")
            for _, _, data in ancillary:
                fds.frombytes(data)
            said = dict(line.partition("=")[::2] for line in message.decode().splitlines())
            if "END" in said:
                return
            if said.get("FDSTORE"):
                self._kept[said["FDNAME"]] = fds[0]
            elif said.get("FDSTOREREMOVE") and said["FDNAME"] in self._kept:
                os.close(self._kept.pop(said["FDNAME"]))
            elif said.get("READY"):
                self._ready.set()
