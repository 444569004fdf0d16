"""A real automounter with a map of binds, in mount and process namespaces of its own.

All mounts are shared there, as systemd sets a machine up, so that a container may see what is mounted later.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.until import until

_SETUP = """
set -e
mount --make-rshared /
mount -t tmpfs run /run
setsid automount -f --pid-file /run/automount.pid "$1/master" >"$1/automount.log" 2>&1 &
while :; do wait; sleep 3600 & done # the first process takes in what daemons leave behind
"""


class BindMap(NamedTuple):
    """A running automounter."""

    top: Path
    """The directory below which the automounter mounts a source on first access."""
    first: int
    """The process id of the first process in the namespaces."""

    def mounted(self) -> set[str]:
        """Returns the names below `top` that are mounted now, without mounting any."""
        lines = Path(f"/proc/{self.first}/mounts").read_bytes().split(b"\n")[:-1]
        paths = [Path(os.fsdecode(line.split(b" ")[1])) for line in lines]
        return {path.name for path in paths if path.parent == self.top}

    def run(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command inside to its end."""
        return subprocess.run(
            ["timeout", "-s", "KILL", "60", "nsenter", "-t", str(self.first), "-m", "-p", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )


@contextmanager
def bind_map(directory: Path, sources: Mapping[str, Path]) -> Iterator[BindMap]:
    """Starts an automounter for the block, with its files in `directory`. `sources`: name below its top ->
    the directory that is shown there."""
    top = directory / "top"
    top.mkdir()
    (directory / "map").write_text(
        "".join(f"{name} -fstype=bind :{source}\n" for name, source in sources.items())
    )
    (directory / "master").write_text(f"{top} file:{directory}/map --timeout 600\n")
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen(
        [*namespaces, "--propagation", "private", "sh", "-c", _SETUP, "sh", directory], start_new_session=True
    ) as process:
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            until(lambda: bool(children.read_text()))
            first = int(children.read_text())
            trigger = os.fsencode(f" {top} autofs ")
            until(lambda: trigger in Path(f"/proc/{first}/mounts").read_bytes())
            yield BindMap(top, first)
        finally:
            process.send_signal(signal.SIGKILL)  # and with it, all others inside
            process.wait(30)
            until(lambda: not Path(f"/proc/{first}").exists())
