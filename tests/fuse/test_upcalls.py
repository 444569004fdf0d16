"""The kernel does not repeat requests whose answers it can cache. The tests read the daemon's counts of the
kernel's requests (upcalls)."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fuse_mount import Mounted, mounted
from tests.support.images import Objects, file, image, live
from tests.support.kernel_caches import kept_kernel_caches

pytestmark = pytest.mark.root

REMAINING = {
    "direct": {"STATFS"},
    "pyfuse3": {"STATFS", "OPEN", "RELEASE", "OPENDIR", "READDIRPLUS", "RELEASEDIR", "READLINK", "FLUSH"},
}
"""Session -> requests that the kernel still makes when everything is cached. `find` calls statfs once, which
no kernel caches."""


@pytest.fixture
def mount(kind: str, tmp_path: Path) -> Iterator[Mounted]:
    objects = Objects()
    one = image(
        objects,
        {
            "bin": {"tool": file(objects, Path("/bin/busybox").read_bytes(), mode=0o755), "sh": "tool"},
            "many": {f"d{i}": {f"f{j}": b"%d" % (i * j) for j in range(20)} for i in range(20)},
            "big": file(objects, os.urandom(3 << 20)),
        },
        split=100,
    )
    with mounted(kind, objects, live(objects, {"one": one, "latest": "one"}), tmp_path) as found:
        yield found


PROGRAMS = {
    "find": "find {0} -printf '%p %s %T@ %l\\n'",
    "stat": "stat {0}/one/many/*/f1 {0}/latest/bin/sh",
    "missing": "! stat {0}/one/nothing {0}/one/many/d1/nothing",
    "cat": "cat {0}/one/many/d3/* {0}/latest/big",
    "start": "{0}/latest/bin/sh -c true",
    "tar": "tar -cf /dev/null -C {0} .",
}


IN_PAGES = {"READ", "READDIRPLUS", "READLINK"}
"""Kinds of request whose answers the kernel caches in pages. It repeats them if it has dropped the pages."""


def came_back() -> int:
    """Returns how many file pages the kernel has dropped and filled again since boot. Some kernels page out
    memory that was not used for a minute, even if much memory is free (DAMON)."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("workingset_refault_file "))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_second_time_asks_nothing(kind: str, mount: Mounted, program: str) -> None:
    def run() -> None:
        command = PROGRAMS[program].format(mount.path)
        subprocess.run(
            ["sh", "-c", command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    with kept_kernel_caches():
        run()
        for _ in range(5):
            before, filled = mount.upcalls(), came_back()
            run()
            again = {name: number - before.get(name, 0) for name, number in mount.upcalls().items()}
            asked = {name for name, number in again.items() if number} - REMAINING[kind]
            if not asked:
                return
            assert asked <= IN_PAGES, again
            assert came_back() > filled, again
    pytest.fail("five times the kernel had let go of pages")


def test_one_images_read_warms_the_other(kind: str, tmp_path: Path) -> None:
    objects = Objects()
    large = file(objects, os.urandom(1 << 20))
    one, two = (image(objects, {"lib": {"large": large}, "tag": name}) for name in (b"1", b"2"))
    with mounted(kind, objects, live(objects, {"one": one, "two": two}), tmp_path) as found:
        with kept_kernel_caches():
            data = (found.path / "one/lib/large").read_bytes()
            before = found.upcalls()["READ"]
            assert (found.path / "two/lib/large").read_bytes() == data
            assert found.upcalls()["READ"] == before
        numbers = {os.stat(found.path / name / "lib/large").st_ino for name in ("one", "two")}
        assert len(numbers) == 1


def test_all_lookups_are_given_back(mount: Mounted) -> None:
    subprocess.run(["find", mount.path, "-ls"], check=True, stdout=subprocess.DEVNULL)
    assert mount.ask("table")["lookups"] > 400
    assert mount.given_back("lookups", 3)["lookups"] <= 3
    mount.show(live(mount.objects, {}), 2)
    assert mount.ask("table")["slots"] <= 4
