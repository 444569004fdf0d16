"""Files that are named in options: a pipe is read to its end, and one that does not end is not waited for."""

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon.settings_input import load
from lazyfs.daemon.values_from_files import read_value
from lazyfs.runtimes.settings import read_settings as read_run_settings
from lazyfs.sync.settings import read_settings
from lazyfs.system import bounded_file
from lazyfs.system.bounded_file import read_file


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 200_000)
    assert read_file(str(tmp_path / "file"), 1 << 20, 0) == b"x" * 200_000
    assert read_file(str(tmp_path / "file"), 70_000) == b"x" * 70_000
    assert read_file(os.devnull, 10) == b""
    with pytest.raises(IsADirectoryError):
        read_file(str(tmp_path), 10)
    with pytest.raises(FileNotFoundError):
        read_file(str(tmp_path / "none"), 10)


def test_a_pipe_is_read_to_its_end(pipe: str) -> None:
    writer = threading.Thread(target=lambda: Path(pipe).write_bytes(b"y" * 200_000))
    writer.start()
    assert read_file(pipe, 1 << 20, 60) == b"y" * 200_000
    writer.join()


@pytest.mark.parametrize("written", [None, b"", b"some"])
def test_a_pipe_that_does_not_end_is_given_up(pipe: str, written: bytes | None) -> None:
    """The pipe has no writer, or one that writes nothing more and keeps it open."""
    writer = os.open(pipe if written is not None else os.devnull, os.O_RDWR)
    os.write(writer, written or b"")
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.01 s"):
        read_file(pipe, 100, 0.01)
    os.close(writer)


def _run_settings(path: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZYFS_RUN_SETTINGS", path)
        read_run_settings()


@pytest.mark.parametrize(
    "read",
    [load, read_settings, _run_settings, lambda path: read_value(f"@{path}", "proxy")],
    ids=["mount", "service", "run", "value"],
)
def test_no_settings_are_waited_for_without_end(
    pipe: str, read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_file, "read_file", partial(read_file, seconds=0.01))
    with pytest.raises(UsageError, match=f"{pipe}: a pipe that has not ended"):
        read(pipe)
