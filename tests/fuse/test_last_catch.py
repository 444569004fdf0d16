"""An unforeseen exception ends one call, and is counted and logged. The mount, its threads and its unmount
still work."""

import errno
import logging
import math
import os
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from lazyfs.client.objects import Objects as ClientObjects
from lazyfs.core.digest import Digest, ObjectRef, ref_of
from lazyfs.core.errors import TransportError
from lazyfs.daemon.session_choice import KINDS
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.trace import Trace
from lazyfs.prefetch.policy import PrefetchPolicy
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.prefetch.profiles import ProfilePrefetch
from lazyfs.prefetch.queue import PrefetchQueue
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import Fetched, Need
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.filesystems import surroundings
from tests.support.fuse_mount import mounted
from tests.support.gate_fetcher import GateFetcher
from tests.support.images import Objects, image, live
from tests.support.memory_cache import MemoryCache
from tests.support.small_disks import loop_ext4
from tests.support.until import until


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("how", "name"), [("value", "ValueError"), ("depth", "RecursionError")])
def test_a_bug_in_one_answer_is_eio_for_one_program(tmp_path: Path, kind: str, how: str, name: str) -> None:
    objects = Objects()
    names = {f"i{number}": image(objects, {"d": {"f": b"%d" % number}}) for number in range(12)}
    with mounted(kind, objects, live(objects, names), tmp_path) as mount:
        assert (mount.path / "i0/d/f").read_bytes() == b"0"
        mount.ask("break", how=how)
        for number in range(1, 10):  # more than there are threads
            with pytest.raises(OSError, match="Input/output") as caught:
                (mount.path / f"i{number}/d/f").read_bytes()
            assert caught.value.errno == errno.EIO
        assert mount.ask("counters")["faults"][name] >= 9
        mount.ask("break", how="")
        for number in range(12):
            assert (mount.path / f"i{number}/d/f").read_bytes() == b"%d" % number
        assert os.statvfs(mount.path).f_namemax == 255


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_cannot_be_written_is_eio_too(tmp_path: Path, kind: str) -> None:
    """The exception comes from the code that packs the tree's answer into bytes for the kernel."""
    objects = Objects()
    with mounted(kind, objects, live(objects, {"i": image(objects, {"f": b"1"})}), tmp_path) as mount:
        mount.ask("break space", how=True)
        for _ in range(5):
            with pytest.raises(OSError, match="Input/output"):
                os.statvfs(mount.path)
        assert sum(mount.ask("counters")["faults"].values()) == 5
        mount.ask("break space", how=False)
        assert os.statvfs(mount.path).f_namemax == 255
        assert (mount.path / "i/f").read_bytes() == b"1"


async def none(_: str) -> None:
    raise AssertionError("nothing is opened here")


async def test_a_bug_while_fetching_ahead_does_not_end_the_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def start(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise OverflowError

    monkeypatch.setattr(PrefetchQueue, "start", start)
    monkeypatch.setattr(ProfilePrefetch, "start", start)
    monkeypatch.setattr(PrefetchPolicy, "on_read", lambda _, __: [ref_of(b"x")])
    cache, fetcher = MemoryCache(), GateFetcher(tmp_path)
    around = surroundings(Filesystem(Tree(SlotTable()), none))
    objects = ClientObjects(fetcher, cache)
    prefetcher = Prefetcher(objects, lambda: 1 << 20, around)
    monkeypatch.setattr("lazyfs.prefetch.prefetcher.QUIET", math.inf)  # as if a read had waited before
    # a whole file of the root directory; the policy is a stand-in
    read = SimpleNamespace(number=ROOT, entry=SimpleNamespace(pack_number=-1), small_file=None, slices=[])
    prefetcher.on_read(read)  # type: ignore[arg-type]
    prefetcher.on_enter(ref_of(b"image"), ref_of(b"x"))
    await trio.testing.wait_all_tasks_blocked()
    assert asked == 2
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [OverflowError] * 2


@pytest.mark.parametrize("bug", [ValueError(), MemoryError(), RecursionError(), KeyError("x")])
async def test_a_bug_in_a_call_that_waits_is_eio_and_counted(bug: Exception) -> None:
    def call(_: Fetched) -> None:
        raise bug

    filesystem = Filesystem(Tree(SlotTable()), none)
    with pytest.raises(OSError, match="Input/output"):
        await filesystem.complete(call)
    assert filesystem.counters.faults == {type(bug).__name__: 1}


async def test_a_repository_that_was_withdrawn_meanwhile_is_eio() -> None:
    def call(_: Fetched) -> None:
        raise Need("gone", (ObjectRef(Digest(bytes(32)), 1),))

    filesystem = Filesystem(Tree(SlotTable()), none)
    with pytest.raises(OSError, match="Input/output"):
        await filesystem.complete(call)
    assert filesystem.counters.faults == {TransportError.__name__: 1}


def test_a_full_disk_ends_the_trace_and_neither_a_read_nor_the_unmount(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.fuse.trace.MOST", 10)
    trace = Trace("/dev/full")
    with caplog.at_level(logging.ERROR):
        for number in range(100_000):
            trace.line("read", b"path", bytes(32), number, "cache", 0.1)
        trace.close()
    assert "No space left" in trace.problem
    assert sum("the trace ends here" in message for message in caplog.messages) == 1


@pytest.mark.root
@pytest.mark.parametrize("most", [10, 100_000])
def test_a_frozen_disk_holds_up_no_unmount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A write to a frozen filesystem blocks until the filesystem is thawed. `most` is the number of lines
    that the trace buffers meanwhile."""
    monkeypatch.setattr("lazyfs.fuse.trace.MOST", most)
    with loop_ext4(tmp_path, 16 << 20) as disk:
        trace = Trace(str(disk / "trace"))
        subprocess.run(["fsfreeze", "--freeze", disk], check=True)
        try:
            for number in range(10_000):
                trace.line("read", b"path", bytes(32), number, "cache", 0.1)
            trace.close(0.2)
            assert "took nothing for 0.2 s" in trace.problem
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", disk], check=True)
        until(lambda: not any(thread.name == "trace" for thread in threading.enumerate()))
