"""Behaviour that only the session on /dev/fuse has: it ends the requests of killed programs, falls back to
the other session, and leaves no trace."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from lazyfs.core.errors import UsageError
from lazyfs.daemon import session_choice
from lazyfs.fuse import device
from lazyfs.fuse.direct.session import DirectSession
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import MountOptions
from lazyfs.system import mountpoint as points
from tests.support.filesystems import FetchedObjects, filesystem_of
from tests.support.fuse_mount import Mounted, mounted
from tests.support.images import Objects, image, live
from tests.support.kernel_caches import kept_kernel_caches
from tests.support.open_paths import open_to_all
from tests.support.until import until

pytestmark = pytest.mark.root


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounted]:
    """Mounts two images and reads the second one. Afterwards it drops all objects, so that each must be
    fetched again before it can be read."""
    objects = Objects()
    one = image(objects, {"f": b"one", "d": {"g": b"g"}})
    two = image(objects, {"f": b"two"})
    with (
        mounted("direct", objects, live(objects, {"one": one, "two": two}), tmp_path) as found,
        kept_kernel_caches(),  # of the second image, which could not be read again while a test holds answers
    ):
        (found.path / "two/f").read_bytes()
        found.ask("objects", here=False)
        yield found
        found.ask("go")


def test_a_program_that_waits_for_metadata_can_be_killed(mount: Mounted) -> None:
    mount.ask("hold")
    with subprocess.Popen(["cat", mount.path / "one/f"]) as reader:
        until(lambda: mount.ask("objects")["waiting"] == 1)
        reader.send_signal(signal.SIGKILL)
        assert reader.wait(timeout=10) == -signal.SIGKILL
    assert mount.ask("objects")["waiting"] == 0
    assert mount.ask("counters")["interrupted"] == 1
    mount.ask("go")
    assert (mount.path / "one/f").read_bytes() == b"one"


def test_one_killed_program_strands_no_other(mount: Mounted) -> None:
    mount.ask("hold")
    cat = ["cat", str(mount.path / "one/d/g")]
    readers = [subprocess.Popen(cat, stdout=subprocess.PIPE)]
    until(lambda: mount.ask("objects")["waiting"] >= 1)
    # A second lookup of a name waits in the kernel for the first LOOKUP, and no signal ends that wait.
    readers += [subprocess.Popen(cat, stdout=subprocess.PIPE) for _ in range(2)]
    readers[0].kill()
    assert readers[0].wait(timeout=10) == -signal.SIGKILL
    mount.ask("go")
    assert [reader.communicate(timeout=20)[0] for reader in readers[1:]] == [b"g", b"g"]
    readers[0].communicate()


def test_a_metadata_answer_at_hand_does_not_wait_for_a_stalled_fetch(mount: Mounted) -> None:
    mount.ask("hold")
    with subprocess.Popen(["cat", mount.path / "one/f"], stdout=subprocess.PIPE) as reader:
        until(lambda: mount.ask("objects")["waiting"] == 1)
        before = mount.upcalls()["LOOKUP"]
        for number in range(50):
            assert not (mount.path / f"two/missing{number}").exists()
        assert mount.upcalls()["LOOKUP"] == before + 50
        assert reader.poll() is None
        mount.ask("go")
        assert reader.communicate(timeout=20)[0] == b"one"


def test_the_kernel_lists_it_as_what_it_is(mount: Mounted) -> None:
    found = points.find(str(mount.path))
    assert found is not None
    assert (found.fstype, found.source) == ("fuse.lazyfs", "test")
    assert {"ro", "nosuid", "nodev", "default_permissions", "allow_other"} <= set(
        found.options.replace(" ", ",").split(",")
    )


def test_open_and_opendir_are_asked_for_once(mount: Mounted) -> None:
    mount.ask("objects", here=True)
    for _ in range(5):
        assert (mount.path / "one/f").read_bytes() == b"one"
        assert os.listdir(mount.path / "one/d") == ["g"]
    upcalls = mount.upcalls()
    assert (upcalls["OPEN"], upcalls["OPENDIR"], upcalls["READ"]) == (1, 1, 2)
    assert "RELEASE" not in upcalls
    assert "FLUSH" not in upcalls or upcalls["FLUSH"] == 1


def example() -> Filesystem:
    objects = FetchedObjects()
    return filesystem_of(objects, live(objects, {"one": image(objects, {"f": b"content"})}).ref)


OPTIONS = MountOptions(source="a,b c", permissions="image")


@pytest.mark.parametrize("how", ["unmounted", "cancelled"])
async def test_the_end_leaves_no_thread_and_no_descriptor(how: str, tmp_path: Path) -> None:
    await trio.to_thread.run_sync(os.getpid)  # trio's own threads come first
    threads, descriptors = threading.active_count(), os.listdir("/proc/self/fd")
    session = DirectSession(example(), str(tmp_path), OPTIONS)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.serve)
            inner = tmp_path / "one" / "f"
            assert await trio.to_thread.run_sync(inner.read_bytes) == b"content"
            found = points.find(str(tmp_path))
            assert found is not None
            assert found.source == "a,b c"
            if how == "unmounted":
                await trio.to_thread.run_sync(points.unmount, str(tmp_path))
            else:
                nursery.cancel_scope.cancel()
    assert points.find(str(tmp_path)) is None
    assert threading.active_count() == threads
    assert os.listdir("/proc/self/fd") == descriptors


async def test_programs_inside_see_the_end_of_a_session(tmp_path: Path) -> None:
    session = DirectSession(example(), str(tmp_path), OPTIONS)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.serve)
            opened = await trio.to_thread.run_sync(lambda: os.open(tmp_path / "one", os.O_RDONLY))
            nursery.cancel_scope.cancel()
    try:
        with pytest.raises(OSError, match=r"not connected|abort"):
            os.stat("f", dir_fd=opened)
    finally:
        os.close(opened)


def test_unmounting_takes_away_our_own_mount_only(tmp_path: Path) -> None:
    session = DirectSession(example(), str(tmp_path), OPTIONS)
    subprocess.run(["mount", "-t", "tmpfs", "other", tmp_path], check=True)
    try:
        session.unmount()
        found = points.find(str(tmp_path))
        assert found is not None
        assert found.fstype == "tmpfs"
    finally:
        subprocess.run(["umount", tmp_path], check=True)
        session.unmount()
    assert points.find(str(tmp_path)) is None
    session.unmount()


def test_auto_falls_back_where_the_direct_session_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: str, __: MountOptions) -> int:
        raise UsageError("no")

    monkeypatch.setattr(device, "mount", refused)
    session = session_choice.make_session("auto", example(), str(tmp_path), OPTIONS)
    assert session.kind == "pyfuse3"
    session.unmount()
    with pytest.raises(UsageError, match="no"):
        session_choice.make_session("direct", example(), str(tmp_path), OPTIONS)


async def serve_and_read(directory: str) -> None:
    """Becomes another user, mounts through fusermount3, reads a file and unmounts. Must run in a process of
    its own."""
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)  # only now: the interpreter itself may lie where nobody can read it
    options = MountOptions(source="mine", permissions="open", allow_other=False)
    session = DirectSession(example(), directory, options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.serve)
        print(await trio.to_thread.run_sync((Path(directory) / "one/f").read_text), os.geteuid())
        nursery.cancel_scope.cancel()


def test_without_privileges_fusermount3_mounts(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    os.chown(mnt, 65534, 65534)
    program = "import sys, trio; from tests.fuse.test_direct import serve_and_read\n"
    program += "trio.run(serve_and_read, sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, mnt], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("content 65534\n", 0), done.stderr
    assert points.find(str(mnt)) is None
