"""Sources of binds that are more than a directory on a disk: filesystems that never answer, automounters,
mounts with flags, filesystems that root cannot read."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import RunOptions, prepare
from lazyfs.runtimes.launch import Bind
from tests.support.bind_map import BindMap, bind_map
from tests.support.busybox import busybox_root
from tests.support.docker import docker_daemon
from tests.support.processes import frozen
from tests.support.runtimes import NOBODY, ROOTS_ONLY, RUNTIMES, WAYS, lazyfs_of, run, search_path
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


class Start(NamedTuple):
    runtime: str
    user: int | None
    image: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([self.image, "--runtime", self.runtime, *arguments], user=self.user)


@pytest.fixture(scope="module")
def busybox(open_path_factory: Path) -> Path:
    return busybox_root(open_path_factory / "image", "sh", "cat", "touch")


@pytest.fixture(scope="module", autouse=True)
def docker() -> Iterator[None]:
    with docker_daemon():
        yield


@pytest.fixture(
    params=WAYS, ids=[f"{runtime}-{'root' if user is None else 'user'}" for runtime, user in WAYS]
)
def start(request: pytest.FixtureRequest, busybox: Path) -> Start:
    runtime, user = request.param
    return Start(runtime, user, busybox)


@contextmanager
def _mounted(point: Path, *options: str) -> Iterator[Path]:
    """Mounts an empty filesystem in memory that every user may write to."""
    point.mkdir()
    flags = ",".join(("mode=777", *options))
    subprocess.run(["mount", "-t", "tmpfs", "-o", flags, "tmpfs", point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "--recursive", point], check=True)


def test_a_bind_keeps_the_flags_of_its_mounts(start: Start, open_path: Path) -> None:
    """A bind keeps the flags nosuid, nodev and noexec of its source. A filesystem that is mounted below the
    source gets nosuid and nodev if it lacks them. `:ro` also applies to filesystems below the source."""
    script = "cat /proc/mounts; touch /open/below/made; for n in '' below/; do touch /closed/${n}new; done"
    with _mounted(open_path / "source", "nosuid", "nodev", "noexec") as source, _mounted(source / "below"):
        done = start.run("-B", f"{source}:/open", "-B", f"{source}:/closed:ro", "--", "sh", "-c", script)
        assert os.listdir(source / "below") == ["made"]
    assert done.stderr.count("Read-only file system") == 2
    lines = [line.split() for line in done.stdout.splitlines()]
    found = {words[1]: set(words[3].split(",")) for words in lines}
    safe = {"nosuid", "nodev"}
    assert found["/open"] >= {"rw", "noexec", *safe}
    if start.runtime == "docker":  # it adds no flags, and takes them from what it makes read-only
        return
    assert found["/open/below"] >= {"rw", *safe}
    assert found["/closed"] >= {"ro", "noexec", *safe}
    assert found["/closed/below"] >= {"ro", *safe}


OF_AUTOMOUNTER = [way for way in WAYS if way[0] != "docker"]


@pytest.fixture(scope="module")
def automounter(open_path_factory: Path) -> Iterator[BindMap]:
    """Yields an automounter. For each way to start a program it has two directories of its own, `first` and
    `later`, which contain a file once they are mounted."""
    shown = open_path_factory / "shown"
    shown.mkdir()
    (shown / "file").write_text("shown\n")
    names = [f"{name}-{runtime}-{user}" for name in ("first", "later") for runtime, user in OF_AUTOMOUNTER]
    with bind_map(open_path_factory, dict.fromkeys(names, shown)) as made:
        yield made


@pytest.mark.parametrize(("runtime", "user"), OF_AUTOMOUNTER)
def test_sources_below_an_automounter(
    busybox: Path, automounter: BindMap, runtime: str, user: int | None
) -> None:
    """The start mounts the source of a bind if it is not mounted yet. If the automounter's whole directory is
    bound, an access by the program mounts a directory below it."""
    first, later = (f"{name}-{runtime}-{user}" for name in ("first", "later"))
    before = automounter.mounted()
    binds = ["-B", f"{automounter.top}/{first}:/first", "-B", f"{automounter.top}:/cvmfs"]
    command = [*lazyfs_of(user), "run", str(busybox), "--runtime", runtime, *binds]
    done = automounter.run(
        [*command, "--", "cat", "/first/file", f"/cvmfs/{later}/file"],
        {**os.environ, "PATH": search_path()},
    )
    assert (done.stdout, done.stderr) == ("shown\n" * 2, "")
    assert automounter.mounted() - before == {first, later}


def test_docker_shows_what_is_mounted_later(busybox: Path, open_path: Path) -> None:
    """The test mounts `later` itself: docker's daemon runs outside the automounter's mount namespace, and so
    would not see the automounter's mounts."""
    script = "echo ready; read go; cat /cvmfs/later/file"
    with _mounted(open_path / "cvmfs") as top:
        subprocess.run(["mount", "--make-shared", top], check=True)
        command = [*lazyfs_of(None), "run", str(busybox), "--runtime", "docker", "-B", f"{top}:/cvmfs"]
        with subprocess.Popen(
            [*command, "--", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with _mounted(top / "later") as later:
                (later / "file").write_text("later\n")
                assert process.communicate("go\n", timeout=60)[0] == "later\n"


@contextmanager
def _of_nobody(directory: Path) -> Iterator[Path]:
    """Mounts a filesystem that user NOBODY alone can read."""
    image, point = directory / "image.squashfs", directory / "private"
    (directory / "files").mkdir()
    (directory / "files/file").write_text("private\n")
    point.mkdir()
    os.chown(point, NOBODY, NOBODY)
    subprocess.run(["mksquashfs", directory / "files", image, "-quiet"], check=True, capture_output=True)
    identity = lazyfs_of(NOBODY)[:4]
    with subprocess.Popen([*identity, "squashfuse", "-f", image, point]) as server:
        try:
            mount = os.fsencode(f" {point} fuse.squashfuse ")
            until(lambda: mount in Path("/proc/mounts").read_bytes())
            yield point
        finally:
            subprocess.run(["umount", "--lazy", point], check=True)
            server.wait(30)


def test_the_callers_directory_that_root_cannot_read(busybox: Path, open_path: Path) -> None:
    """The user of the directory can bind it, and start programs while working in it, with every runtime. If
    root binds it, a message says why the bind is left out."""
    with _of_nobody(open_path) as private:
        for runtime in (name for name in RUNTIMES if name not in ROOTS_ONLY):
            words = lazyfs_of(NOBODY)
            enter = ["sh", "-c", 'cd "$0" && exec "$@"', str(private)]
            command = [*words[:4], *enter, *words[4:], "run", str(busybox), "--runtime", runtime]
            done = subprocess.run(
                [*command, "-B", f"{private}:/data", "--", "cat", "/data/file"],
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
                env={**os.environ, "PATH": search_path()},
            )
            assert (done.stdout, done.stderr) == ("private\n", ""), runtime
        done = run([busybox, "-B", f"{private}:/data", "--", "cat", "/data/file"])
        assert f"bind source {private} cannot be reached by user 0" in done.stderr


@contextmanager
def _silent_filesystem(directory: Path) -> Iterator[Path]:
    """Mounts a FUSE filesystem and stops its server."""
    (directory / "files").mkdir()
    (directory / "silent").mkdir()
    image, point = directory / "image.squashfs", directory / "silent"
    subprocess.run(["mksquashfs", directory / "files", image, "-quiet"], check=True, capture_output=True)
    with subprocess.Popen(["squashfuse", "-f", image, point]) as server:
        try:
            until(lambda: point.stat().st_dev != directory.stat().st_dev)
            with frozen(server.pid):
                yield point
        finally:
            subprocess.run(["umount", "--lazy", point], check=True)
            server.kill()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "root/bin").mkdir(parents=True)
    return tmp_path / "root"


def test_a_source_that_does_not_answer_is_left_out_or_refused(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["lazyfs.runtimes.start"], "SOURCE_SECONDS", 1.0)
    with _silent_filesystem(tmp_path) as silent:
        source = str(silent / "data")
        there, missing = Bind("/usr", "/usr"), Bind("/missing/here", "/m")
        said: list[str] = []
        options = RunOptions((Bind(source, "/d"), there, missing))
        prepared = prepare(str(image), ("/bin/true",), options, warn=said.append)
        assert prepared.launch.binds == (there,)
        assert said == [
            f"bind source {source} is on a filesystem that did not answer in 1 s; it is left out",
            "bind source /missing/here does not exist on this machine; it is left out",
        ]
        required = RunOptions((there, Bind(source, "/d", required=True)))
        with pytest.raises(UsageError, match="did not answer in 1 s, and is required"):
            prepare(str(image), ("/bin/true",), required, warn=said.append)
