"""A daemon's memory stays below its setting and its control group's limit, however many files are walked."""

import os
import random
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.site import FILES, make
from lazyfs.core.byte_size import parse_size
from lazyfs.system import mountpoint as points
from tests.support.cli import LAZYFS, lazyfs, mounted, status
from tests.support.control_group import control_group
from tests.support.counts import count
from tests.support.fault_server import FaultServer, of_directory
from tests.support.images import file, image, live
from tests.support.measured import Measured
from tests.support.processes import daemons
from tests.support.repository import Published
from tests.support.runtime_directory import runtime_directory

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

LIMIT = count("100M", "300M")
"""The memory setting: the default in the long tier. The ordinary tier walks a tenth of the files with a third
of the memory."""
IMAGES = count(120, 2000)
REPOSITORIES, READERS = count(12, 200), count(16, 64)
ROUNDS = count(5, 300)


NEIGHBOUR = """
import sys, time
taken = []
for _ in range(0, int(sys.argv[1]), 1 << 20):
    taken.append(b"x" * (1 << 20))
    time.sleep(0.1)
"""
"""A program that allocates the given number of bytes, one MiB at a time."""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with runtime_directory(tmp_path, monkeypatch) as directory:
        yield directory


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a store of images that share nothing. A tenth of the files have the size from which lazyfs
    shares the pages of equal files."""
    directory = tmp_path_factory.mktemp("site")
    make(str(directory / "store"), str(directory / "keys"), IMAGES, family=1, large=10)
    return directory / "store"


def walk(directory: Path) -> int:
    """Stats every file below a directory; returns their number."""
    found = 0
    for top, _, names in os.walk(directory):
        for name in names:
            os.lstat(os.path.join(top, name))
        found += len(names)
    return found


def most_memory(pid: int) -> int:
    """Returns the peak resident memory of a process in bytes, with the files that it has mapped."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) << 10


def together(works: list[Callable[[], object]]) -> None:
    """Runs each piece of work in a thread; raises the first error."""
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 (raised below)
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("session", ["direct", pytest.param("pyfuse3", marks=pytest.mark.long)])
def test_a_walk_of_every_file(site: Path, tmp_path: Path, session: str, measured: Measured) -> None:
    options = ["--cache", str(tmp_path / "cache"), "--memory-limit", LIMIT, "--fuse", session]
    options += ["--log", str(tmp_path / "log")]
    with mounted(site, tmp_path / "mnt", *options) as mnt:
        shelves = sorted((mnt / ".flat").iterdir())
        parts = [shelves[start::4] for start in range(4)]
        found: list[int] = []
        together([lambda part=part: found.extend(map(walk, part)) for part in parts])  # type: ignore[misc]
        told = status(mnt)
        most = most_memory(told["pid"])
    measured(f"{sum(found):,} files walked ({session}): {most >> 20} MiB at most of {LIMIT}")
    measured(str(told["memory"]))
    assert sum(found) == IMAGES * FILES
    assert told["memory"]["limit"] == parse_size(LIMIT, "limit")
    assert most <= parse_size(LIMIT, "limit")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """Returns the directory of all repositories, and the contents of the one file in each repository. The
    files of the first READERS repositories are large."""
    directory = tmp_path_factory.mktemp("repositories")
    source = random.Random(3)
    contents = []
    for number in range(REPOSITORIES):
        published = Published(directory / f"r{number}", f"r{number}.test")
        data = source.randbytes(6 << 20 if number < READERS else 1000)
        made = image(published.objects, {"big": file(published.objects, data, shift=20)})
        published.commit(live(published.objects, {"lib": {"a:1": made}}))
        contents.append(data)
    return directory, contents


def test_many_repositories_and_readers(
    repositories: tuple[Path, list[bytes]], tmp_path: Path, measured: Measured
) -> None:
    directory, contents = repositories
    limit = count("128M", LIMIT)  # 83 to 87 MiB alone, but 105 beside other tests: parts arrive together then
    mnt, config = tmp_path / "mnt", tmp_path / "site.toml"
    mnt.mkdir()
    with FaultServer(of_directory(directory)) as origin:
        lines = [f'mountpoint = "{mnt}"', f'cache = "{tmp_path}/cache"', f'memory_limit = "{limit}"']
        for number in range(REPOSITORIES):
            trust = directory / f"r{number}/store/metadata/1.root.json"
            lines += [f'[repositories."r{number}.test"]', f'url = "{origin.url}/r{number}/store"']
            lines += [f'trust = "{trust}"']
        config.write_text("\n".join(lines))
        lazyfs("mount", "--config", config)
        try:
            for number in range(REPOSITORIES):
                assert os.listdir(mnt / f"r{number}.test/lib/a:1") == ["big"]

            def read(number: int) -> None:
                assert (mnt / f"r{number}.test/lib/a:1/big").read_bytes() == contents[number]

            readers = [index % min(REPOSITORIES, READERS) for index in range(READERS)]
            together([lambda number=number: read(number) for number in readers])  # type: ignore[misc]
            told = status(mnt)
            most = most_memory(told["pid"])
        finally:
            lazyfs("umount", mnt)
    measured(f"{REPOSITORIES} repositories, {READERS} readers: {most >> 20} MiB at most of {limit}")
    assert len(told["repositories"]) == REPOSITORIES
    assert most <= parse_size(limit, "limit")


def test_in_a_control_group_that_has_less(site: Path, tmp_path: Path, measured: Measured) -> None:
    """The setting is larger than the group's limit. Unless the daemon finds and respects the limit, the
    kernel kills it."""
    size = count(100 << 20, 150 << 20)
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    with control_group() as group:
        group.limit(size)
        command = [*LAZYFS, "mount", str(site), str(mnt), "--cache", str(tmp_path / "cache")]
        command += ["--memory-limit", "1G"]
        subprocess.run(command, check=True, preexec_fn=group.enter)
        try:
            pid = status(mnt)["pid"]
            shelves = sorted((mnt / ".flat").iterdir())
            found: list[int] = []
            step = count(8, 4)  # half of the files in the ordinary tier
            parts = [shelves[start::step] for start in range(4)]
            together([lambda part=part: found.extend(map(walk, part)) for part in parts])  # type: ignore[misc]
            alone = status(mnt)
            # The group's other processes take what the daemon keeps but does not need.
            neighbour = subprocess.run(
                [sys.executable, "-c", NEIGHBOUR, str(size // 4)], preexec_fn=group.enter, check=False
            )
            told = status(mnt)
            killed = group.killed()
            assert walk(shelves[0]) > 0
        finally:
            lazyfs("umount", mnt)
    measured(f"{sum(found):,} files walked in a group of {size >> 20} MiB: {told['memory']}")
    assert sum(found) >= IMAGES * FILES * count(1, 4) / 4
    assert (killed, neighbour.returncode, told["pid"]) == (0, 0, pid)
    assert told["memory"]["limit"] == size
    assert told["memory"]["given_back"] > alone["memory"]["given_back"]


def test_mounts_that_come_and_go_leave_nothing(tmp_path: Path, runtime: Path) -> None:
    published = Published(tmp_path / "published")
    published.commit(live(published.objects, {"lib": {"a:1": image(published.objects, {"f": b"1"})}}))
    cache = tmp_path / "cache"
    before: set[str] | None = None
    for number in range(ROUNDS):
        mnt = tmp_path / f"mnt{number % 3}"
        with mounted(published.store, mnt, "--cache", cache) as there:
            assert (there / "lib/a:1/f").read_bytes() == b"1"
            daemon = os.pidfd_open(status(there)["pid"])  # its number may be another's soon
        assert select.select([daemon], [], [], 20)[0]
        os.close(daemon)
        assert points.find(str(mnt)) is None
        left = {str(path.relative_to(tmp_path)) for path in (*runtime.rglob("*"), *cache.rglob("*"))}
        assert [path for path in left if path.startswith("run/") or "/mounts/" in path] == []
        if before is not None:
            assert left == before
        before = left
    for number in range(3):
        assert daemons(tmp_path / f"mnt{number}") == []
    assert [mount for mount in points.mounts() if mount.mountpoint.startswith(str(tmp_path))] == []
