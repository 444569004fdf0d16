"""A real automounter in a private environment: its own mount and process namespaces, with the shipped files
in its /etc and /sbin.

No signal can stop a process that waits for a stuck automounter. When the first process of the namespace ends,
the kernel kills all others in it and removes their mounts.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.support.until import until

NODE = Path(__file__).parents[2] / "tools/node"
VENV = Path(sys.executable).parent.parent
LAZYFS = VENV / "bin/lazyfs"

_SETUP = r"""
set -e
cd "$1"
mount -t overlay -o "lowerdir=$1/installed/sbin:/usr/sbin" overlay /usr/sbin
mount -t overlay -o "lowerdir=$1/installed/etc:/etc" overlay /etc
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 dev "$1/dev"
for device in "null 1 3" "zero 1 5" "random 1 8" "urandom 1 9" "fuse 10 229"; do
    set -- "$1" $device
    mknod -m 666 "dev/$2" c "$3" "$4"
done
ln -s "$1/syslog" dev/log
mount --move "$1/dev" /dev
setsid automount -f --pid-file /run/automount.pid /etc/auto.master >automount.log 2>&1 &
while :; do wait; sleep 3600 & done # the first process takes in what daemons leave behind
"""


class Automounter:
    """An automounter. Call `configure` first, then `start`. At the end of the context, it is stopped and all
    its mounts are removed."""

    def __init__(self, timeout: int = 600) -> None:
        # Not below pytest's directory: a daemon that becomes another user must get here.
        self.directory = Path(tempfile.mkdtemp(prefix="lazyfs-autofs-"))
        self.directory.chmod(0o755)
        self.top = self.directory / "top"
        """The directory below which the shipped map mounts the repositories."""
        self.direct = self.directory / "direct"
        """Parent of the direct map's mount points."""
        self.cache = self.directory / "cache"
        for path in (self.top, self.direct, self.directory / "dev"):
            path.mkdir()
        installed = self.directory / "installed"
        environment = os.environ | {"DESTDIR": str(installed)}
        subprocess.run([NODE / "install", VENV], env=environment, check=True, capture_output=True)
        self._etc = installed / "etc"
        (self._etc / "auto.master").write_text(
            f"{self.top} /etc/auto.lazyfs --timeout {timeout}\n/- /etc/auto.direct --timeout {timeout}\n"
        )
        (self._etc / "auto.direct").touch()
        self._syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._syslog.bind(str(self.directory / "syslog"))
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0
        self._direct: list[Path] = []

    def configure(self, name: str, text: str) -> None:
        """Writes /etc/lazyfs/NAME.toml, with a cache and a log for this name alone."""
        text = f'cache = "{self.cache}"\nlog = "{self.log_file(name)}"\n' + text
        (self._etc / f"lazyfs/{name}.toml").write_text(text)

    def map_directly(self, name: str, path: Path) -> None:
        """Adds a direct map that mounts the repository NAME at `path`. Call it before `start`."""
        self._direct.append(path)
        with (self._etc / "auto.direct").open("a") as lines:
            lines.write(f"{path} -fstype=lazyfs,config=/etc/lazyfs/{name}.toml :lazyfs\n")

    def mount_twice(self) -> None:
        """Makes the automounter's mount helper mount again at once, while the automounter waits for it. The
        exit codes of both mounts are lines of `mounted_twice`. Call it before `start`."""
        helper = self.directory / "installed/sbin/mount.lazyfs"
        again = helper.rename(helper.with_name("mount.once"))
        helper.write_text(
            f'#!/bin/sh\n"/usr/sbin/{again.name}" "$@"; first=$?\n"/usr/sbin/{again.name}" "$@"\n'
            f"echo $first $? >>{self.mounted_twice}\nexit $first\n"
        )
        helper.chmod(0o755)

    @property
    def mounted_twice(self) -> Path:
        return self.directory / "mounted-twice"

    def log_file(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Starts the automounter; returns when its maps are mounted."""
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self.directory / "setup.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*unshare, "--propagation", "private", "sh", "-c", _SETUP, "sh", self.directory],
                stderr=log,
                start_new_session=True,
            )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        until(lambda: bool(children.read_text()))
        self._first = int(children.read_text())
        tops = [self.top, *self._direct]
        until(lambda: all(self._is_mounted(top, "autofs") for top in tops))

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            # --kill-child: the first process inside dies with unshare, and all others with the first
            self._process.kill()
            self._process.wait(timeout=30)
            until(lambda: not Path(f"/proc/{self._first}").exists())
        self._syslog.close()
        subprocess.run(["rm", "-rf", "--one-file-system", self.directory], check=True)

    def _is_mounted(self, path: Path, fstype: str) -> bool:
        return os.fsencode(f" {path} {fstype} ") in Path(f"/proc/{self._first}/mounts").read_bytes()

    def is_mounted(self, path: Path) -> bool:
        """Returns True if lazyfs is mounted at `path`. Reads the kernel's list only, so no automount is
        triggered."""
        return self._is_mounted(path, "fuse.lazyfs")

    def begin(self, *command: str | Path, seconds: int = 60) -> "subprocess.Popen[str]":
        """Starts a command inside, and returns its process. The command is killed after `seconds`."""
        entered = ["timeout", "-s", "KILL", str(seconds), "nsenter", "-t", str(self._first), "-m", "-p"]
        return subprocess.Popen(
            [*entered, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",  # for lists of mounts
        )

    def run(self, *command: str | Path, seconds: int = 60) -> "subprocess.CompletedProcess[str]":
        """Runs a command inside to its end. Raises AssertionError, with the states of all processes, if the
        command takes longer than `seconds`."""
        process = self.begin(*command, seconds=seconds)
        out, err = process.communicate()
        if process.returncode == -signal.SIGKILL:
            raise AssertionError(f"{shlex.join(map(str, command))} hangs:\n{self.processes()}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def read(self, path: Path) -> str:
        """Returns the text of a file inside, read by a program there."""
        done = self.run("cat", path)
        assert done.returncode == 0, f"{done.stderr}{(self.directory / 'automount.log').read_text()}"
        return done.stdout

    def processes(self) -> str:
        """Returns the list of all processes inside, each with the kernel function that it waits in."""
        process = self.begin("ps", "axo", "pid,ppid,pgid,sid,stat,wchan:20,args")
        return process.communicate()[0]

    def daemons(self) -> list[int]:
        """Returns the process ids (inside) of lazyfs's daemons, and of mount commands that have not yet
        finished."""
        found = self.begin("ps", "-ewwo", "pid=", "-o", "comm=", "-o", "args=").communicate()[0]
        lines = [line.split(maxsplit=2) for line in found.splitlines()]
        return [
            int(pid)
            for pid, name, command in lines
            if "lazyfs.cli.mount_helper" in command and name != "lazyfs-keeper"
        ]

    def signal(self, name: str, pid: int | None = None) -> None:
        """Sends a signal to a process inside; without `pid` to the automounter."""
        pid = pid or int(self.run("cat", "/run/automount.pid").stdout)
        self.run("kill", f"-{name}", str(pid))

    def expire(self, path: Path) -> None:
        """Makes the automounter expire unused mounts; returns when `path` is unmounted."""

        def gone() -> bool:
            if self.is_mounted(path):
                self.signal("USR1")
            return not self.is_mounted(path)

        until(gone)

    def syslog(self) -> str:
        """Returns the messages sent to /dev/log inside since the last call."""
        said = []
        self._syslog.setblocking(False)
        while True:
            try:
                said.append(self._syslog.recv(1 << 16).decode())
            except BlockingIOError:
                return "\n".join(said)
