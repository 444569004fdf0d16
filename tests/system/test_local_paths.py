"""Paths that are looked at without a child process. The caller touches no filesystem that may hang."""

import os
from pathlib import Path

import pytest

from lazyfs.system.local_paths import is_local, look


@pytest.fixture
def types(tmp_path: Path) -> dict[str, str]:
    """Returns a table of mounts with a remote filesystem at `far`, in which there is a directory `in`."""
    (tmp_path / "far/in").mkdir(parents=True)
    (tmp_path / "near/in").mkdir(parents=True)
    return {"/": "ext4", "/proc": "proc", str(tmp_path / "far"): "nfs4", str(tmp_path / "near"): "xfs"}


@pytest.mark.parametrize("way", ["near", "near/in", "near/in/../in", "not/there", "./near//in"])
def test_a_way_over_local_filesystems_is_local(way: str, types: dict[str, str], tmp_path: Path) -> None:
    assert is_local(f"{tmp_path}/{way}", types)


@pytest.mark.parametrize(
    "target", ["far", "far/in", "./far/in", "near/../far", "near/in/../../far/in/../../near", "loop"]
)
def test_a_way_through_a_remote_filesystem_is_not(target: str, types: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "far")
    (tmp_path / "near/link").symlink_to(tmp_path / target)
    (tmp_path / "near/relative").symlink_to(f"../{target}")
    assert not is_local(f"{tmp_path}/{target}", types)
    assert not is_local(f"{tmp_path}/near/link", types)
    assert not is_local(f"{tmp_path}/near/relative/more", types)


def test_the_kernels_own_directory_of_devices_is_local(types: dict[str, str]) -> None:
    """/dev/shm lies in it, where the caches of jobs often are."""
    assert is_local("/dev/null", types | {"/dev": "devtmpfs"})


def test_links_in_a_circle_end(types: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert is_local(f"{tmp_path}/a", types)


def test_a_path_below_an_unknown_or_stacked_root_is_not_local(types: dict[str, str], tmp_path: Path) -> None:
    assert not is_local(f"{tmp_path}/near", types | {"/": "overlay"})
    del types["/"]
    assert not is_local(f"{tmp_path}/near", types)


def test_only_remote_filesystems_are_asked_by_a_child(types: dict[str, str], tmp_path: Path) -> None:
    assert look(f"{tmp_path}/near", types, os.getpid, 60).value == os.getpid()
    there = look(f"{tmp_path}/far", types, os.getpid, 60)
    assert there.came
    assert there.value != os.getpid()
