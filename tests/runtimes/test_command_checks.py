"""Faults that are found before the start: a missing command or directory, a file that is no program, and a
program for another machine."""

import struct
from pathlib import Path

import pytest

from lazyfs.runtimes.command_checks import obstacle
from lazyfs.runtimes.launch import Bind, Launch


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    (root / "srv").mkdir()
    _program(root / "bin/sh", Path("/bin/sh").read_bytes()[:64])
    _program(root / "bin/script", b"#!/bin/sh\n")
    (root / "bin/data").write_text("no program")
    (root / "usr").symlink_to("/")
    return root


def _program(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


def _foreign() -> bytes:
    """Returns the header of a program for a machine that nobody has (e_machine 40000)."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, 40000)


def _look(
    image: Path, *command: str, workdir: str = "/", binds: tuple[Bind, ...] = ()
) -> tuple[int, str] | None:
    environment = {"PATH": "/none:/usr/bin:/bin"}
    found = obstacle(Launch(str(image), command, environment, workdir, binds))
    return None if found is None else (found.exit_code, found.reason)


def test_nothing_is_in_the_way(image: Path) -> None:
    for name in ("sh", "/bin/sh", "script", "/usr/bin/script"):
        assert _look(image, name) is None
    assert _look(image, "./sh", workdir="/bin") is None
    assert _look(image, "sh", workdir="/tmp/new") is None


def test_a_missing_command_is_127_and_a_file_that_is_no_program_126(image: Path) -> None:
    assert _look(image, "none") == (127, "command none is in none of /none:/usr/bin:/bin in the image")
    assert _look(image, "/bin/none") == (127, "command /bin/none is not in the image")
    for name in ("data", "/bin/data", "/srv"):
        assert (_look(image, name) or (0, ""))[0] == 126
    (image / "usr").unlink()
    (image / "usr/bin").mkdir(parents=True)
    (image / "usr/bin/script").write_text("first on the path, no program")
    assert _look(image, "script") is None


def test_a_bind_may_have_what_is_missing(image: Path) -> None:
    bind = (Bind("/usr", "/opt"),)
    assert _look(image, "/opt/bin/tool", binds=bind) is None
    assert _look(image, "sh", workdir="/opt/lib", binds=bind) is None
    made = (Bind("/usr", "/made/deep"),)
    assert _look(image, "/made/deep/bin/tool", binds=made) is None
    for workdir in ("/made", "/made/deep", "/made/deep/bin"):
        assert _look(image, "sh", workdir=workdir, binds=made) is None
    assert (_look(image, "sh", workdir="/made/other", binds=made) or (0, ""))[0] == 125


def test_a_link_of_the_image_may_lead_into_a_bind(image: Path) -> None:
    """A bind may be where the image's link leads, and its target may be a link of the image."""
    (image / "bin/tool").symlink_to("/software/bin/tool")
    (image / "opt").symlink_to("software")
    for target in ("/software", "/opt"):
        bind = (Bind("/usr", target),)
        assert _look(image, "tool", binds=bind) is None
        assert _look(image, "/opt/bin/tool", binds=bind) is None
        assert _look(image, "sh", workdir="/opt/share", binds=bind) is None
    other = (Bind("/usr", "/soft"),)
    assert (_look(image, "tool", binds=other) or (0, ""))[0] == 127
    assert (_look(image, "sh", workdir="/opt/share", binds=other) or (0, ""))[0] == 125


def test_proc_dev_and_tmp_are_not_those_of_the_image(image: Path) -> None:
    for workdir in ("/proc", "/proc/self", "/dev/shm", "/tmp"):
        assert _look(image, "sh", workdir=workdir) is None
    (image / "tmp").mkdir()
    _program(image / "tmp/tool", b"#!/bin/sh\n")
    assert (_look(image, "/tmp/tool") or (0, ""))[0] == 127  # /tmp is empty inside
    assert _look(image, "/tmp/tool", binds=(Bind("/usr", "/tmp"),)) is None


def test_a_missing_working_directory_is_said(image: Path) -> None:
    assert _look(image, "sh", workdir="/none") == (125, "the working directory /none is not in the image")
    assert _look(image, "sh", workdir="/bin/sh") == (125, "the working directory /bin/sh is not in the image")


def test_a_program_for_another_machine_is_said(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazyfs.runtimes.command_checks._emulates", lambda: False)
    _program(image / "bin/foreign", _foreign())
    code, reason = _look(image, "foreign") or (0, "")
    assert code == 125
    assert reason.startswith("the image is for machine 40000, and this machine is ")
    _program(image / "bin/sh", _foreign())  # a script is for the machine of the image's shell
    assert (_look(image, "script") or (0, ""))[0] == 125
    monkeypatch.setattr("lazyfs.runtimes.command_checks._emulates", lambda: True)
    assert _look(image, "foreign") is None
