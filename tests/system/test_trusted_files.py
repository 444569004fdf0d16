"""Another user cannot choose which files the daemon opens, be it by a link, a directory, a hardlink, a FIFO
or a mode."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lazyfs.system import trusted_files
from lazyfs.system.trusted_files import (
    Untrusted,
    is_private_directory,
    make_private_directory,
    open_directory,
    open_file,
    open_output,
)

STRANGER = 12345
CREATE = os.O_RDWR | os.O_CREAT
pytestmark = pytest.mark.root
"""Only root can make files of other users."""


def _written(path: Path, opened: Callable[[str], int]) -> str:
    number = opened(str(path))
    os.write(number, b"new")
    os.close(number)
    return path.read_text()


def _state(path: str) -> int:
    return open_file(path, CREATE)


OPENED = pytest.mark.parametrize("opened", [_state, open_output], ids=["state", "output"])


@OPENED
def test_a_file_is_made_and_found_again(tmp_path: Path, opened: Callable[[str], int]) -> None:
    assert _written(tmp_path / "file", opened) == "new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) & 0o027 == 0
    os.close(opened(str(tmp_path / "file")))
    with pytest.raises(FileNotFoundError):
        opened(str(tmp_path / "none/file"))
    with pytest.raises(IsADirectoryError):
        opened("/")


@OPENED
def test_a_link_of_another_user_is_not_followed(tmp_path: Path, opened: Callable[[str], int]) -> None:
    (tmp_path / "victim").write_text("precious")
    for name, target in (("file", tmp_path / "victim"), ("folder", tmp_path)):
        (tmp_path / name).symlink_to(target)
        os.chown(tmp_path / name, STRANGER, STRANGER, follow_symlinks=False)
    for path in (tmp_path / "file", tmp_path / "folder" / "victim", tmp_path / "folder" / "new"):
        with pytest.raises(Untrusted, match=rf"is a link of user {STRANGER}, which leads to .*; remove it"):
            opened(str(path))
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "new").exists()


@OPENED
def test_a_link_of_roots_is_followed(tmp_path: Path, opened: Callable[[str], int]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real/link").symlink_to("../real/../real/file")
    assert _written(tmp_path / "folder/link", opened) == "new"
    assert (tmp_path / "real/file").read_text() == "new"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="Too many levels"):
        opened(str(tmp_path / "round"))


@OPENED
def test_a_file_of_another_user_is_not_written(tmp_path: Path, opened: Callable[[str], int]) -> None:
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", STRANGER, STRANGER)
    with pytest.raises(Untrusted, match=f"file: belongs to user {STRANGER}; remove it"):
        opened(str(tmp_path / "file"))


@OPENED
def test_a_fifo_is_refused_at_once(tmp_path: Path, opened: Callable[[str], int]) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises((Untrusted, OSError), match=r"is no regular file|No such device"):
        opened(str(tmp_path / "file"))


def test_a_second_name_of_a_file_of_roots_is_not_appended_to(tmp_path: Path) -> None:
    """Without the kernel's protected_hardlinks, any user can make a hardlink to a file of root's in /tmp."""
    (tmp_path / "victim").touch()
    (tmp_path / "all").mkdir()
    (tmp_path / "all").chmod(0o1777)
    os.link(tmp_path / "victim", tmp_path / "all/log")
    with pytest.raises(Untrusted, match=r"has another name, and others may write to .*/all"):
        open_output(str(tmp_path / "all/log"))
    os.link(tmp_path / "victim", tmp_path / "kept")  # in a directory that only root may write
    os.close(open_output(str(tmp_path / "kept")))


def test_a_log_may_lie_where_others_write_and_on_a_device(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    os.chown(tmp_path / "log", STRANGER, STRANGER)
    (tmp_path / "log").chmod(0o775)
    assert _written(tmp_path / "log/lazyfs.log", open_output) == "new"
    os.close(open_output(os.devnull))
    with pytest.raises(Untrusted, match="/dev/null: is no regular file"):
        _state(os.devnull)


@pytest.mark.parametrize(
    ("owner", "group", "mode", "said"),
    [
        (STRANGER, 0, 0o755, f"belongs to user {STRANGER}, who could put anything there"),
        (STRANGER, 0, 0o1777, f"belongs to user {STRANGER}, who could put anything there"),
        (0, 0, 0o777, "others than user 0 .root. may write to"),
        (0, STRANGER, 0o775, "others than user 0 .root. may write to"),
        (0, 0, 0o775, ""),
        (0, 0, 0o1777, ""),
        (0, STRANGER, 0o1775, ""),
    ],
)
def test_each_directory_on_the_way_is_judged(
    tmp_path: Path, owner: int, group: int, mode: int, said: str
) -> None:
    step = tmp_path / "step"
    (step / "own").mkdir(parents=True)
    os.chown(step, owner, group)
    step.chmod(mode)
    if not said:
        os.close(_state(str(step / "own/file")))
        os.close(open_directory(str(step / "made/of/it"), make=True))
        assert stat.S_IMODE((step / "made/of/it").stat().st_mode) == 0o700
        return
    for attempt in (
        lambda: _state(str(step / "own/file")),
        lambda: open_directory(str(step / "made"), make=True),
        lambda: make_private_directory(str(step / "made")),
    ):
        with pytest.raises(Untrusted, match=rf"{step} {said}|{said} {step}"):
            attempt()
    assert not is_private_directory(str(step / "own"))
    assert os.listdir(step) == ["own"]
    assert os.listdir(step / "own") == []


def test_a_private_directory_is_this_users_and_closed_to_others(tmp_path: Path) -> None:
    make_private_directory(str(tmp_path / "a/b"))
    assert is_private_directory(str(tmp_path / "a/b"))
    (tmp_path / "a/b").chmod(0o1777)
    with pytest.raises(Untrusted, match="a/b: others may write to it"):
        make_private_directory(str(tmp_path / "a/b"))
    assert not is_private_directory(str(tmp_path / "a/b"))


def test_what_only_others_may_write_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o666)
    with pytest.raises(Untrusted, match="file: others may write it; remove it, or chmod 0600"):
        _state(str(tmp_path / "file"))


def test_a_directory_that_becomes_a_link_on_the_way_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk holds each directory of the path open, so a name that changes later has no effect."""
    for name in ("step", "others"):
        (tmp_path / name / "in").mkdir(parents=True)
    check = trusted_files._Walk._check_directory

    def exchange(walk: trusted_files._Walk, found: os.stat_result) -> None:
        check(walk, found)
        if os.path.samestat(found, os.stat(tmp_path / "step")) and not (tmp_path / "was").exists():
            (tmp_path / "step").rename(tmp_path / "was")
            (tmp_path / "step").symlink_to("others")

    monkeypatch.setattr(trusted_files._Walk, "_check_directory", exchange)
    os.close(_state(str(tmp_path / "step/in/file")))
    assert os.listdir(tmp_path / "was/in") == ["file"]
    assert os.listdir(tmp_path / "others/in") == []
