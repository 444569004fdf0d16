"""Starts that have failed at real sites: streams, links in the image, users without a name, long paths."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.docker import docker_daemon
from tests.support.runtimes import NOBODY, ROOTS_ONLY, RUNTIMES, lazyfs_of, run, search_path

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

UNNAMED = 54321
"""A user without an entry in /etc/passwd."""
LONG = "directory-with-a-name-as-experiments-give-them/" * 4
COPIED_THROUGH = {"podman", "docker", "runc"}
"""Runtimes whose own processes copy a program's streams."""


class Start(NamedTuple):
    runtime: str
    user: int | None
    image: Path

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return run([self.image, "--runtime", self.runtime, *arguments], user=self.user, given=given)


WAYS = [
    (runtime, user)
    for runtime in RUNTIMES
    for user in (None, NOBODY)
    if user is None or runtime not in ROOTS_ONLY
]


@pytest.fixture(scope="module")
def image(open_path_factory: Path) -> Path:
    """Makes an image, at a long path, whose links lead nowhere, to the host, and out of the tree."""
    root = open_path_factory / LONG / "image"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "ls", "true", "head", "readlink", "tty"):
        (root / "bin" / name).symlink_to("busybox")
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
    params=WAYS, ids=[f"{runtime}-{'root' if user is None else 'user'}" for runtime, user in WAYS]
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


def test_binary_streams_pass_whole(start: Start) -> None:
    """A megabyte with every byte value passes through stdin and stdout unchanged, and stderr is a separate
    stream."""
    content = bytes(range(256)) * 4096
    command = [*lazyfs_of(start.user), "run", str(start.image), "--runtime", start.runtime, "--"]
    done = subprocess.run(
        [*command, "sh", "-c", "cat; echo apart >&2; tty >&2"],
        input=content,
        capture_output=True,
        env={**os.environ, "PATH": search_path()},
        timeout=100,
        check=False,
        cwd="/",
    )
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(content).digest()
    assert done.stderr == b"apart\nnot a tty\n"


def test_stdin_is_read_by_the_program_only(start: Start, open_path: Path) -> None:
    """`lazyfs run` itself reads nothing from stdin. So in `while read line; do lazyfs run ...; done <file`
    the next run sees what the program left unread. Runtimes that copy the stream read ahead and are
    exempt."""
    (open_path / "lines").write_text("one\ntwo\n")
    command = [*lazyfs_of(start.user), "run", str(start.image), "--runtime", start.runtime, "--", "true"]
    with open(open_path / "lines", "rb") as file:
        for _ in range(2):
            subprocess.run(
                command,
                stdin=file,
                env={**os.environ, "PATH": search_path()},
                check=True,
                timeout=100,
                cwd="/",
            )
        left = os.read(file.fileno(), 100)
    assert left == (b"" if start.runtime in COPIED_THROUGH else b"one\ntwo\n")


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name not in (*ROOTS_ONLY, "apptainer")])
def test_a_user_without_name_or_home(image: Path, runtime: str) -> None:
    done = Start(runtime, UNNAMED, image).run("--", "sh", "-c", "echo $HOME; ls -d $HOME")
    assert (done.stdout, done.stderr, done.returncode) == ("/tmp\n/tmp\n", "", 0)


def test_a_dangling_resolver_stops_no_start(start: Start, open_path: Path) -> None:
    root = open_path / "image"
    shutil.copytree(start.image, root, symlinks=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    done = start._replace(image=root).run("--", "sh", "-c", "cat /etc/resolv.conf >/dev/null 2>&1; echo ran")
    if start.runtime == "charliecloud":
        assert "its /etc/resolv.conf is a link, which ch-run follows outside" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("ran\n", "")
