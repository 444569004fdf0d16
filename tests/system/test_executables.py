"""Programs are found on PATH as the shell finds them."""

import shutil
from pathlib import Path

import pytest

from lazyfs.system.executables import find_executable


def test_the_first_program_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, mode in (("a", 0o644), ("c", 0o755), ("d", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").write_text("#!/bin/sh\n")
        (tmp_path / folder / "tool").chmod(mode)
    (tmp_path / "b/tool").mkdir(parents=True)  # a directory is none
    path = ":".join(str(tmp_path / name) for name in ("none", "a", "b", "c", "d"))
    assert find_executable("tool", path) == str(tmp_path / "c/tool") == shutil.which("tool", path=path)
    assert find_executable("other", path) is None
    assert find_executable(str(tmp_path / "d/tool"), path) == str(tmp_path / "d/tool")
    assert find_executable(str(tmp_path / "a/tool"), path) is None
    monkeypatch.setenv("PATH", path)
    assert find_executable("tool") == str(tmp_path / "c/tool")
