"""An image is exchanged after it was checked and before the start: no directory of the machine becomes the
root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.pinned_root import PinnedRoot

_START = """
import os, sys
from lazyfs.runtimes import RunOptions, prepare, start
from lazyfs.runtimes.launch import parse_bind
image, how, *binds = sys.argv[1:]
script = "cat /is-image; ls /"
options = RunOptions(tuple(map(parse_bind, binds)), runtime="bubblewrap")
prepared = prepare(image, ("/bin/busybox", "sh", "-c", script), options)
os.rename(image, image + ".moved")
os.symlink("/", image)
if how == "whole":
    print(start(prepared))
else:
    print(prepared.runtime.read_end(prepared.runtime.start(prepared.plan)))
"""
"""Replaces the image by a link to / after `prepare`. With `whole`, starts the program as `lazyfs run` does;
otherwise skips the last check of the image before the start."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    for name in ("bin", "etc", "proc", "dev", "tmp", "srv"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "ls"):
        (root / "bin" / name).symlink_to("busybox")
    for name in ("resolv.conf", "hosts"):
        (root / "etc" / name).touch()
    (root / "is-image").write_text("the image\n")
    return root


def _start(image: Path, how: str, *binds: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _START, str(image), how, *binds]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("binds", [(), ("/usr:/missing/at/top",)], ids=["complete", "covered"])
def test_the_runtime_opens_what_was_found(image: Path, binds: tuple[str, ...]) -> None:
    done = _start(image, "unchecked", *binds)
    assert done.stdout.startswith("the image\n"), done.stderr
    assert "root" not in done.stdout.splitlines(), "the machine's / has a directory of that name"
    assert "exit_code=0, started=True" in done.stdout


def test_a_start_refuses_it_before_any_runtime_runs(image: Path) -> None:
    done = _start(image, "whole")
    assert done.returncode != 0
    assert done.stdout == ""
    assert f"image {image}: has changed since it was found" in done.stderr


def test_what_is_no_longer_there_or_a_link_is_not_pinned(image: Path) -> None:
    for target in ("/", "image.moved", "missing"):
        pinned = PinnedRoot(str(image))
        image.rename(image.with_name("image.moved"))
        image.symlink_to(target)
        with pytest.raises(UsageError, match="has changed since it was found"):
            PinnedRoot(str(image))
        with pytest.raises(UsageError, match="has changed since it was found"):
            PinnedRoot(str(image / "bin"))
        with pytest.raises(UsageError, match="has changed"):
            pinned.check()
        image.unlink()
        image.mkdir()
        with pytest.raises(UsageError, match="has been exchanged"):
            pinned.check()
        image.rmdir()
        image.with_name("image.moved").rename(image)
        pinned.check()


def test_a_part_is_opened_inside_it_whatever_the_path_leads_to_now(image: Path) -> None:
    pinned = PinnedRoot(str(image))
    image.rename(image.with_name("image.moved"))
    image.symlink_to("/")
    part = pinned.part("/is-image")
    with open(f"/proc/self/fd/{part.number}") as file:
        assert file.read() == "the image\n"
    with pytest.raises(UsageError):
        pinned.part("/root")


def test_descriptors_are_closed_with_their_objects(image: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        PinnedRoot(str(image)).part("/bin")
    assert len(os.listdir("/proc/self/fd")) == before
