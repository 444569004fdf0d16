"""A durably written file exists completely or not at all, whichever step of the write fails."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from lazyfs.system.durable_file import write_durably, write_unnamed


def test_a_file_is_made_and_replaced_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(str(path), b"old", mode=0o644)
    status = write_durably(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (status.st_ino, status.st_mtime_ns) == (path.stat().st_ino, path.stat().st_mtime_ns)
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_that_is_taken_is_left_alone_if_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(str(path), b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_durably(str(path), b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("replace", [True, False])
def test_content_is_flushed_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    events: list[str] = []

    def recorded(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any) -> None:
            kind = ""
            if name == "fsync":
                kind = " directory" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else " file"
            events.append(name + kind)
            real(*arguments)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "rename", "link"):
        recorded(name)
    write_durably(str(tmp_path / "file"), b"data", replace=replace)
    assert events == ["fsync file", "rename" if replace else "link", "fsync directory"]


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "fchmod"])
def test_a_failing_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path, aside = tmp_path / "file", tmp_path / "aside"
    aside.mkdir()
    write_durably(str(path), b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space left"):
            write_durably(str(path), b"new", temporary_directory=str(aside))
        if step in ("write", "fchmod"):
            with pytest.raises(OSError, match="No space left"):
                write_unnamed(str(aside), b"new", mode=0o644)
    assert path.read_bytes() == b"old"
    assert os.listdir(aside) == []


def test_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:2]))
    write_durably(str(tmp_path / "file"), b"abcdefg")
    assert (tmp_path / "file").read_bytes() == b"abcdefg"
