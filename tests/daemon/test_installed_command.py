"""The commands that pip installs ignore the environment of another Python, and start in any locale."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.cli import LAZYFS, lazyfs
from tests.support.processes import run
from tests.support.repository import Published

pytestmark = pytest.mark.root

SCRIPT = Path(sys.executable).parent / "lazyfs"


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """Returns a directory with modules and libraries of another Python, which stop any Python that loads
    them."""
    (tmp_path / "old").mkdir()
    for name in ("enum", "re", "click", "msgspec", "encodings"):
        (tmp_path / f"old/{name}.py").write_text("raise SystemExit('made for another Python')\n")
    for line in Path("/proc/self/maps").read_text().splitlines():
        library = line.rpartition("/")[2]
        if ".so" in library and not library.startswith(("libc.", "ld-")) and "/python" not in line:
            (tmp_path / "old" / library).write_text("made for another system")
    return tmp_path / "old"


@pytest.mark.parametrize(
    "name", ["PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "PYTHONSTARTUP", "PYTHONIOENCODING"]
)
def test_the_installed_command_takes_nothing_from_another_pythons_environment(
    name: str, other_python: Path, published: Published, tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    environment = os.environ | {name: str(other_python)}
    for arguments in (
        ["mount", published.store, tmp_path / "mnt", "--cache", tmp_path / "cache"],
        ["status", tmp_path / "mnt"],
        ["umount", tmp_path / "mnt"],
    ):
        done = run(SCRIPT, *map(str, arguments), env=environment)
        assert (done.returncode, done.stderr) == (0, b""), arguments


def test_the_environment_that_stops_python_does_stop_it(other_python: Path) -> None:
    """Shows that the test above proves something: without isolation, each of these variables stops Python."""
    for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"):
        environment = os.environ | {name: str(other_python)}
        assert run(*LAZYFS, "--version", env=environment).returncode != 0


def test_a_directory_full_of_modules_is_no_place_to_import_from(other_python: Path) -> None:
    done = run(SCRIPT, "--version", cwd=other_python)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_mount_helper_is_isolated_too_and_found_by_a_link(
    other_python: Path, published: Published, tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "sbin").symlink_to(SCRIPT.parent / "mount.lazyfs")
    environment = os.environ | {"PYTHONPATH": str(other_python), "PYTHONHOME": str(other_python)}
    options = f"cache={tmp_path}/cache"
    run(tmp_path / "sbin", published.store, tmp_path / "mnt", "-o", options, env=environment, check=True)
    assert (tmp_path / "mnt/lib/a:1/f").read_bytes() == b"1"
    lazyfs("umount", tmp_path / "mnt")


def test_a_program_can_be_given_the_callers_libraries() -> None:
    for variables, code in (({"LD_LIBRARY_PATH": "/callers"}, 0), ({}, 2)):
        environment = {"PATH": os.environ["PATH"], **variables}
        done = run(SCRIPT, "run", "-e", "LD_LIBRARY_PATH", "--explain", "/", "--", "x", env=environment)
        assert done.returncode == code, done
        assert (b"--env LD_LIBRARY_PATH" in done.stderr) == (code == 2)


def test_names_are_printed_in_any_locale(published: Published, tmp_path: Path) -> None:
    mnt = os.fsencode(tmp_path) + b"/mnt\xff\r\xc3\xa9"
    os.mkdir(mnt)
    for locale in ("C", "POSIX", "C.UTF-8"):
        environment = os.environ | {"LC_ALL": locale}
        run(SCRIPT, "mount", published.store, mnt, "--cache", tmp_path / "cache", env=environment, check=True)
        done = run(SCRIPT, "status", env=environment)
        assert done.stderr == b""  # the exit code depends on all mounts of the node
        assert rb"/mnt\xff\r" + b"\xc3\xa9: " in done.stdout
        done = run(SCRIPT, "umount", mnt + b"/none", env=environment)
        assert rb"/mnt\xff\r" + b"\xc3\xa9/none is not mounted" in done.stderr
        run(SCRIPT, "umount", mnt, env=environment, check=True)


def test_an_almost_empty_environment_as_crons(published: Published, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    for arguments in (
        ["mount", published.store, tmp_path / "mnt", "--cache", tmp_path / "cache"],
        ["umount", tmp_path / "mnt"],
    ):
        runtime = {"LAZYFS_RUNTIME_DIR": str(tmp_path / "run")}
        done = run(SCRIPT, *map(str, arguments), env=runtime)
        assert (done.returncode, done.stderr) == (0, b"")
