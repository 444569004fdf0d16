"""`lazyfs run` inside real containers, as batch systems start jobs, with an image of a mount that the
container shows at /cvmfs: it works where the container allows it, and else says why not."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.busybox import busybox_root
from tests.support.cli import lazyfs, new_repository
from tests.support.counts import count
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, apptainer_prefix, lazyfs_of, search_path

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

TOP = Path(__file__).parents[2]
CONF = """\
[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
"""
SYSTEM = ("bin", "sbin", "lib", "lib64")


class Node(NamedTuple):
    """A root filesystem for containers, which shows this machine's programs, and a mount at /cvmfs."""

    root: Path
    mount: Path
    work: Path

    @property
    def binds(self) -> list[str]:
        packages = next(word for word in lazyfs_of(NOBODY) if word.startswith("PYTHONPATH=")).split(":")[-1]
        prefix = apptainer_prefix()
        shown = ["/usr", "/etc", str(TOP), packages, str(prefix)]
        return [*(f"{path}:{path}:ro" for path in shown), f"{self.mount}:/cvmfs:ro"]

    def run(self, outer: list[str], *options: str) -> "subprocess.CompletedProcess[str]":
        """Runs `lazyfs run` on the mount's image, named as in the mount, in a container."""
        inner = ["env", f"PATH={search_path()}", *lazyfs_of(NOBODY)[4:], "run", "app", "--json", *options]
        return subprocess.run(
            [*outer, *inner, "--", "/bin/busybox", "echo", "ran"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "CONTAINERS_CONF": str(self.work / "containers.conf")},
            check=False,
            timeout=100,
            cwd="/",
        )

    def podman(self, *options: str, tmp: str = "rw") -> list[str]:
        places = [f"--{name}={self.work}/{name}" for name in ("root", "runroot", "tmpdir")]
        binds = [f"--volume={bind}" for bind in self.binds]
        start = ["run", "--rm", "--network=host", f"--tmpfs=/tmp:{tmp}", *options, *binds]
        return [
            "podman",
            *places,
            "--storage-driver=vfs",
            "--runtime=runc",
            *start,
            "--rootfs",
            str(self.root),
        ]

    def apptainer(self, user: int | None) -> list[str]:
        identity = [] if user is None else [*lazyfs_of(user)[:4], "env", "HOME=/"]
        binds = [word for bind in self.binds for word in ("--bind", bind)]
        program = str(apptainer_prefix() / "usr/bin/apptainer")
        return [*identity, program, "--silent", "exec", "--contain", "--cleanenv", *binds, str(self.root)]


@pytest.fixture(scope="module")
def node(open_path_factory: Path) -> Iterator[Node]:
    work = open_path_factory
    (work / "containers.conf").write_text(CONF)
    root, image, mount = work / "node", work / "app", work / "mount"
    for name in ("usr", "etc", "proc", "dev", "sys", "tmp", "cvmfs", "run", "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)  # runc gives this mode to what it mounts there
    for name in SYSTEM:
        (root / name).symlink_to(f"usr/{name}")
    busybox_root(image)
    mount.mkdir()
    open_to_all(mount)
    store, keys = new_repository(work)
    lazyfs("publish", f"dir:{image}", store, "--as", "app", "--keys", keys)
    trust = ("--trust", store / "metadata/1.root.json", "--cache", work / "cache")
    lazyfs("mount", store, mount, *trust)
    try:
        yield Node(root, mount, work)
    finally:
        lazyfs("umount", mount)


OPEN = ("--security-opt=seccomp=unconfined", "--security-opt=unmask=ALL")
"""Options of podman with which a container can hold other containers: all system calls are allowed, and no
part of /proc is covered."""
AS_USER = (f"--user={NOBODY}:{NOBODY}",)


INSIDE = [(*AS_USER, *OPEN), ("--privileged",), ("--cap-add=SYS_ADMIN", *OPEN)]


@pytest.mark.parametrize("options", INSIDE[: count(1, 3)], ids=" ".join)
def test_a_start_inside_podman(node: Node, options: tuple[str, ...]) -> None:
    done = node.run(node.podman(*options))
    assert (done.stdout, done.returncode) == ("ran\n", 0), done.stderr
    assert json.loads(done.stderr)["image"] == "/cvmfs/app"


def test_a_start_of_a_user_inside_apptainer(node: Node) -> None:
    done = node.run(node.apptainer(NOBODY))
    assert (done.stdout, done.returncode) == ("ran\n", 0), done.stderr
    assert json.loads(done.stderr)["image"] == "/cvmfs/app"


WITHOUT_RIGHTS = "crun was not started: unshare: Operation not permitted"
REFUSED = {
    "podman": WITHOUT_RIGHTS,
    "podman-user": "a new /proc is not allowed here: the container around this one covers parts of its /proc",
    "apptainer-root": WITHOUT_RIGHTS,
    "nothing-writable": "No usable temporary directory found in",
}
"""Container -> the reason why crun does not work in it."""


@pytest.mark.parametrize("outer", list(REFUSED)[count(2, 0) :])
def test_where_the_container_forbids_it_the_reason_is_said(node: Node, outer: str) -> None:
    """In podman's default containers, parts of /proc are covered, and root has too few capabilities to mount
    another /proc. Root in the apptainer container of this test has no capabilities."""
    outers = {
        "podman": node.podman(),
        "podman-user": node.podman(*AS_USER),
        "apptainer-root": node.apptainer(None),
        "nothing-writable": node.podman("--read-only", "--read-only-tmpfs=false", tmp="ro"),
    }
    done = node.run(outers[outer], "--runtime", "bubblewrap,crun")
    assert (done.stdout, done.returncode) == ("", 2), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("lazyfs: ")]
    assert line.startswith("lazyfs: no usable runtime on this machine: bubblewrap: a trial failed (")
    assert REFUSED[outer] in line, line
    assert "Traceback" not in done.stderr
