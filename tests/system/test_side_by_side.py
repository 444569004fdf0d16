"""Files of tests run side by side: none has another's mounts, or drops what the kernel has cached for
another. What passes once passes again."""

import importlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import kernel_caches
from tests.support.cli import mounted
from tests.support.drawn_inputs import SEARCHING
from tests.support.images import image, live
from tests.support.private_mount_table import private_mount_table
from tests.support.repository import Published
from tests.support.runtime_directory import runtime_directory


def is_mounted(path: Path, process: str = "self") -> bool:
    return os.fsencode(f" {path} ") in Path("/proc", process, "mountinfo").read_bytes()


@pytest.mark.root
def test_the_process_that_started_this_one_has_none_of_its_mounts(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        assert is_mounted(tmp_path)
        assert not is_mounted(tmp_path, str(os.getppid()))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.root
def test_a_new_mount_table_has_no_mount_of_lazyfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that starts beside another one would keep the mounts of that."""
    published = Published(tmp_path / "published")
    published.commit(live(published.objects, {"a:1": image(published.objects, {"f": b"1"})}))
    with (
        runtime_directory(tmp_path, monkeypatch),
        mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt,
    ):
        with private_mount_table():
            assert not is_mounted(mnt)
        assert (mnt / "a:1/f").read_bytes() == b"1"


@pytest.mark.root
def test_no_test_drops_what_another_one_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with kernel_caches.kept_kernel_caches(), monkeypatch.context() as patched:
        patched.setattr(kernel_caches, "_SECONDS", 0)
        with pytest.raises(AssertionError):
            kernel_caches.drop_kernel_caches(1)
    kernel_caches.drop_kernel_caches(1)


def test_the_inputs_of_a_test_are_the_same_in_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after another test has loaded a module with constants, which Hypothesis would draw. The long tier
    searches: it draws others."""
    drawn: list[int] = []

    @settings(max_examples=200)
    @given(st.integers())
    def draw(number: int) -> None:
        drawn.append(number)

    draw()
    before, drawn = drawn, []
    (tmp_path / "loaded_later.py").write_text(f"constants = {[7**power for power in range(20, 99)]}")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("loaded_later")
    draw()
    assert (drawn == before) != SEARCHING
