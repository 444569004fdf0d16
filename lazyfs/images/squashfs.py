"""squashfs filesystems, read and written as tar archives by the programs of squashfs-tools-ng.

A filesystem to be read may be a stranger's. `sqfs2tar`, which reads it, can write to a pipe only, has a bound
on memory, and is killed when it is silent for too long; started by root, it runs as nobody.
"""

import os
import select
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from typing import IO

from lazyfs.core.errors import FormatError, LazyfsError, UsageError
from lazyfs.images.inputs import Input
from lazyfs.images.layer_reader import LayerLimits
from lazyfs.images.streams import PART

SILENCE = 120.0
"""Timeout in seconds for a program to read, to write or to end."""
LEVEL = 6
"""Compression level of gzip: the programs' own 9 takes twice as long, and saves about 1 %."""
_NOBODY = 65534
_MEMORY = 2 << 30
_SAID = 4096
"""Bytes that are kept of a program's messages."""
_BOUNDS = ("prlimit", f"--as={_MEMORY}", "--fsize=0", "--core=0", "--nofile=64", "--")
_NO_NEW = ("setpriv", "--no-new-privs", "--")
_AS_NOBODY = (
    "setpriv",
    f"--reuid={_NOBODY}",
    f"--regid={_NOBODY}",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--no-new-privs",
    "--",
)


def tar_of(filesystem: Input, limits: LayerLimits) -> Iterator[bytes]:
    """Yields the tar archive of everything in a squashfs, in parts. `filesystem`: a file that nobody else
    uses; if the caller is root, it is given to the user nobody.

    Raises FormatError for a damaged filesystem and one that expands beyond `limits`, UsageError if the
    program is missing.
    """
    privileges: tuple[str, ...] = _NO_NEW
    if os.geteuid() == 0:
        os.fchown(filesystem.fileno(), _NOBODY, _NOBODY)
        privileges = _AS_NOBODY
    command = (*_BOUNDS, *privileges, "sqfs2tar", "--root-becomes", ".", "--no-skip", "/dev/stdin")
    stored, given = filesystem.size or 0, 0
    with _started(command, stdin=filesystem.fileno(), stdout=subprocess.PIPE) as (process, said):
        assert process.stdout is not None
        while part := _read(process.stdout, filesystem.name):
            given += len(part)
            if given > limits.free and given > limits.ratio * max(stored, 1):
                raise FormatError(f"{filesystem.name}: {stored} bytes expand to over {given}: a bomb?")
            yield part
        if process.wait(SILENCE):
            raise FormatError(f"{filesystem.name}: its squashfs cannot be read: {_reason(process, said)}")


def write_squashfs(parts: Iterable[bytes], path: str) -> None:
    """Writes the squashfs of a tar archive to the file at `path`. Equal archives give equal bytes. Raises
    LazyfsError if the program fails, UsageError if it is missing."""
    command = ("tar2sqfs", "--quiet", "--force", "--no-skip", "-c", "gzip", "-X", f"level={LEVEL}", path)
    with _started(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as (process, said):
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        with suppress(BrokenPipeError):
            for part in parts:
                _write(process.stdin, part)
        process.stdin.close()
        try:
            code = process.wait(SILENCE)
        except subprocess.TimeoutExpired:
            raise LazyfsError(f"{path}: tar2sqfs has not ended in {SILENCE:g} s") from None
        if code:
            raise LazyfsError(f"{path}: tar2sqfs: {_reason(process, said)}")


class _Said(Thread):
    """Reads the messages of a program, and keeps the first ones."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.text = b""
        self.start()

    def run(self) -> None:
        while part := self._stream.read(_SAID):
            self.text += part[: _SAID - len(self.text)]


@contextmanager
def _started(
    command: Sequence[str], *, stdin: int, stdout: int
) -> Iterator[tuple[subprocess.Popen[bytes], _Said]]:
    """Starts a program for the block; kills it if it still runs at the end. Raises UsageError if it is
    missing."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, bufsize=0, env=environment
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None
    assert process.stderr is not None
    said = _Said(process.stderr)
    try:
        yield process, said
    finally:
        process.kill()
        process.wait()
        said.join()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _missing(program: str) -> UsageError:
    return UsageError(f"{program} is missing: install squashfs-tools-ng and util-linux to use SIF files")


def _reason(process: subprocess.Popen[bytes], said: _Said) -> str:
    """Returns the reason for a program's failure in one line. Raises UsageError if the program was not
    found."""
    if process.returncode == 127:  # prlimit or setpriv has not found it
        raise _missing("sqfs2tar")
    said.join(1)
    text = " ".join(said.text.decode(errors="replace").split())
    return text or (f"exit code {process.returncode}" if process.returncode > 0 else "it was killed")


def _read(stream: IO[bytes], name: str) -> bytes:
    """Returns the next bytes of a program's output; empty at the end. Raises FormatError if none come for
    SILENCE seconds."""
    if not select.select([stream], [], [], SILENCE)[0]:
        raise FormatError(f"{name}: sqfs2tar has given nothing for {SILENCE:g} s")
    return os.read(stream.fileno(), PART)


def _write(stream: IO[bytes], part: bytes) -> None:
    rest = memoryview(part)
    while rest:
        if not select.select([], [stream], [], SILENCE)[1]:
            raise LazyfsError(f"tar2sqfs has taken nothing for {SILENCE:g} s")
        rest = rest[os.write(stream.fileno(), rest) :]
