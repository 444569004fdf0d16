"""A runtime makes its files in the directory of the start, not in the machine's /tmp and not beside the
image: nobody would remove them there if the runtime is killed."""

import ctypes
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.busybox import busybox_root
from tests.support.runtimes import WAYS, lazyfs_of, search_path

_IN_CREATE = 0x100
_PRIVATE_TMP = """\
mkdir "$0/lazyfs-apptainer"
mount --rbind /tmp/lazyfs-apptainer "$0/lazyfs-apptainer"
case "$1" in
/tmp/*) mkdir -p "$0${1#/tmp}" && mount --rbind "$1" "$0${1#/tmp}" ;;
esac
shift
mount --rbind "$0" /tmp
"$@" && touch /tmp/second && exec "$@"
"""
"""A shell script that runs a command twice with another directory as /tmp. apptainer is installed below /tmp,
so it is shown in the new one, and so is this checkout ($1) if it lies there."""
_CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def image() -> Iterator[Path]:
    """Makes an image of busybox, in a directory of its own outside of /tmp."""
    top = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="lazyfs-image-"))
    top.chmod(0o755)
    root = busybox_root(top / "image", "sh")
    yield root
    shutil.rmtree(top)


@contextmanager
def _created_in(directory: Path) -> Iterator[list[str]]:
    """Yields a list, which has the names that were made in the directory when the block has ended."""
    names: list[str] = []
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(directory), _IN_CREATE) > 0
    try:
        yield names
        events = b""
        with suppress(BlockingIOError):  # nothing was made
            events = os.read(watch, 1 << 20)
        while events:
            (length,) = struct.unpack_from("12xI", events)
            names.append(events[16 : 16 + length].rstrip(b"\0").decode())
            events = events[16 + length :]
    finally:
        os.close(watch)


@pytest.mark.root
@pytest.mark.parametrize(("runtime", "user"), [way for way in WAYS if way[0] != "docker"], ids=str)
def test_a_runtime_makes_no_file_on_the_machine(
    image: Path, open_path: Path, runtime: str, user: int | None
) -> None:
    """The first start tries the runtime, so the second one is looked at. docker is left out: its daemon has a
    directory of its own."""
    open_path.chmod(0o1777)
    start = [*lazyfs_of(user), "run", str(image), "--runtime", runtime, "--", "sh", "-c", "echo started"]
    with _created_in(open_path) as names, _created_in(image.parent) as beside:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-e", "-c", _PRIVATE_TMP, str(open_path), str(_CHECKOUT), *start],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={**os.environ, "PATH": search_path(), "TMPDIR": "/tmp"},
            cwd="/",
        )
    assert (done.stdout, done.returncode) == ("started\n" * 2, 0), done.stderr
    made = names[names.index("second") + 1 :]
    assert [name for name in made if not name.startswith("lazyfs-run-")] == []
    assert beside == []
