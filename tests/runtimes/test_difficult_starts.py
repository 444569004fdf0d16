"""Starts that have failed at real sites: links in the image, users without a name, long paths."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.busybox import busybox_root
from tests.support.docker import docker_daemon
from tests.support.runtimes import ALL_WAYS, ROOTS_ONLY, RUNTIMES, WAYS, lazyfs_of, run, search_path

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

UNNAMED = 54321
"""A user without an entry in /etc/passwd."""
LONG = "directory-with-a-name-as-experiments-give-them/" * 4


class Start(NamedTuple):
    runtime: str
    user: int | None
    image: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([self.image, "--runtime", self.runtime, *arguments], user=self.user)


@pytest.fixture(scope="module")
def image(open_path_factory: Path) -> Path:
    """Makes an image, at a long path, whose links lead nowhere, to the host, and out of the tree."""
    root = busybox_root(
        open_path_factory / LONG / "image", "sh", "cat", "ls", "true", "head", "readlink", "env", "printf"
    )
    (root / "etc").mkdir()
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "usr/share/zoneinfo").mkdir(parents=True)
    (root / "usr/share/zoneinfo/UTC").write_text("the image's UTC\n")
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/UTC")
    (root / "data").symlink_to("../../../../../../var/data")
    (root / "var").mkdir()
    return root


@pytest.fixture(scope="module", autouse=True)
def docker() -> Iterator[None]:
    with docker_daemon():
        yield


@pytest.fixture(
    params=ALL_WAYS, ids=[f"{runtime}-{'root' if user is None else 'user'}" for runtime, user in ALL_WAYS]
)
def start(request: pytest.FixtureRequest, image: Path) -> Start:
    runtime, user = request.param
    return Start(runtime, user, image)


def test_a_long_path_and_links_of_the_image(start: Start, open_path: Path) -> None:
    """The image's own time zone file is seen, not the host's. A bind whose target passes through a link out
    of the image stays inside the image."""
    (open_path / "bound").write_text("bound\n")
    target = f"/data/{LONG}bound"
    script = f"cat /etc/localtime {target}; readlink /etc/localtime; ls /var/data; ls /usr/share/zoneinfo"
    done = start.run("-B", f"{open_path}/bound:{target}:ro", "--", "sh", "-c", script)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "the image's UTC",
        "bound",
        "/usr/share/zoneinfo/UTC",
        LONG.split("/", 1)[0],
        "UTC",
    ]
    assert os.listdir(start.image / "var") == []


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name not in (*ROOTS_ONLY, "apptainer")])
def test_a_user_without_name_or_home(image: Path, runtime: str) -> None:
    done = Start(runtime, UNNAMED, image).run("--", "sh", "-c", "echo $HOME; ls -d $HOME")
    assert (done.stdout, done.stderr, done.returncode) == ("/tmp\n/tmp\n", "", 0)


@pytest.mark.parametrize(("runtime", "user"), WAYS)
def test_nothing_of_the_callers_environment_is_needed_or_passed_on(
    image: Path, runtime: str, user: int | None
) -> None:
    """A start works without HOME, USER, SHELL and session variables, as in a batch system's jobs. LD_PRELOAD
    and the locale of the caller, which the image lacks, do not reach the program. Arguments that are not
    ASCII pass unchanged in any locale."""
    preloaded = next(Path("/usr/lib").glob("*/libm.so.6"))
    kept = [f"{name}={os.environ[name]}" for name in ("LAZYFS_RUN_SETTINGS", "TMPDIR") if name in os.environ]
    odd = [
        "LC_ALL=C",
        "LANG=none.ISO-8859-1",
        f"LD_PRELOAD={preloaded}",
        "TEXT=one\ntwo $HOME",
        "BASH_ENV=/x",
    ]
    words = lazyfs_of(user)
    needed = [word for word in words if word.startswith("PYTHON")]
    identity, program = words[: -3 if user is None else 4], words[-3:]
    bare = ["env", "-i", f"PATH={search_path()}", *needed, *kept, *odd]
    text = "é$HOME\n☃"
    script = 'printf "%s\n" "$0"; env'
    done = subprocess.run(
        [
            *identity,
            *bare,
            *program,
            "run",
            image,
            "--runtime",
            runtime,
            "--",
            "sh",
            "-c",
            script,
            text,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd="/",
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"{text}\n")
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names >= {"HOME", "PATH"}
    assert not names & {"TEXT", "BASH_ENV", "PYTHONPATH", "LAZYFS_RUN_SETTINGS"}
    # apptainer and systemd-nspawn have values of their own for some
    assert not [line for line in done.stdout.splitlines() if line in odd or str(preloaded) in line]


def test_a_dangling_resolver_stops_no_start(start: Start, open_path: Path) -> None:
    root = open_path / "image"
    shutil.copytree(start.image, root, symlinks=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    done = start._replace(image=root).run("--", "sh", "-c", "cat /etc/resolv.conf >/dev/null 2>&1; echo ran")
    if start.runtime == "charliecloud":
        assert "its /etc/resolv.conf is a link, which ch-run follows outside" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("ran\n", "")
