"""Runs the `lazyfs` commands as an operator would, in one temporary directory, and measures their time."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.system.own_python import LAZYFS


class StepFailed(LazyfsError):
    """A command failed; the exception has the command's own message."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The numbers of answers and bytes that the origin has sent."""

    requests: int
    sent: int
    """The bytes of the answers' bodies."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A program's run. Its times are seconds since the start of the first command that it needed: the mount,
    or the unpacking."""

    first_output: float
    result: float
    output: str


def lazyfs(*arguments: str) -> str:
    """Runs one command, and returns its standard output. Raises StepFailed with the command's last line on
    stderr."""
    done = subprocess.run(
        [*LAZYFS, *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise StepFailed(f"{arguments[0]}: {said[0].removeprefix('lazyfs: ')}")
    return done.stdout


def timed(argv: Sequence[str], prepare: Callable[[], object] = lambda: None) -> Timed:
    """Runs `prepare`, then the program; the clock starts before `prepare`. Raises StepFailed if the program
    fails."""
    begun = time.perf_counter()
    prepare()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        first = time.perf_counter() - begun
        rest = process.stdout.read()
    result = time.perf_counter() - begun
    if process.returncode != 0:
        raise StepFailed(f"run: the program ended with exit code {process.returncode}")
    return Timed(first, result, first_line + rest)


@dataclass(frozen=True, slots=True)
class Way:
    """The addresses of the demo's origin: where it listens, and the URL that is mounted, which may lead there
    through a relay or proxy."""

    listen: str = "127.0.0.1:0"
    """HOST:PORT of the origin; port 0 takes any free one."""
    url: str | None = None
    """The URL that is mounted, if it is that of a relay or proxy; None for the origin's own."""


class Origin:
    """A running `lazyfs serve`, with its access log."""

    def __init__(self, url: str, log: str) -> None:
        self.url = url
        """The URL that is mounted."""
        self._log = log
        self._read = 0

    def traffic(self) -> Traffic:
        """Returns the traffic since the last call."""
        with open(self._log) as file:
            file.seek(self._read)
            lines = file.readlines()
            self._read = file.tell()
        return Traffic(len(lines), sum(int(line.split()[3]) for line in lines))


@contextmanager
def serving(store: str, log: str, way: Way) -> Iterator[Origin]:
    """Serves a store until the end of the `with` block. `log`: the file for the access log."""
    argv = [*LAZYFS, "serve", store, "--listen", way.listen, "--access-log", log]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            words = process.stdout.readline().split()
            url = next((word for word in words if word.startswith("http://")), None)
            if url is None:
                raise StepFailed("serve: it ended without saying where it listens")
            yield Origin(way.url or url, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()


class Mount:
    """A mount point that can be mounted and unmounted several times; it is always unmounted at the end."""

    def __init__(self, url: str, work: str) -> None:
        self.point = os.path.join(work, "mnt")
        os.mkdir(self.point)
        places = ["--cache", os.path.join(work, "cache"), "--log", os.path.join(work, "mount.log")]
        self._arguments = [url, self.point, "--trust", os.path.join(work, "root.json"), *places]
        self._mounted = False

    def mount(self) -> None:
        lazyfs("mount", *self._arguments)
        self._mounted = True

    def umount(self) -> None:
        if self._mounted:
            lazyfs("umount", self.point)
            self._mounted = False


@contextmanager
def workplace() -> Iterator[str]:
    """Makes a temporary directory, and removes it at the end of the `with` block. Makes none and raises
    UsageError if mounting is impossible here."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise UsageError(
            "/dev/fuse cannot be opened; as root: modprobe fuse; chmod 0666 /dev/fuse "
            "(in a container: --device /dev/fuse)"
        )
    with tempfile.TemporaryDirectory(prefix="lazyfs-demo-", ignore_cleanup_errors=True) as work:
        yield work
