"""Lookups in a folder whose names change with a new revision. The kernel lets no notification about a name in
a folder through before every lookup in that folder is answered, and holds up further lookups meanwhile."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lazyfs.daemon.repository_connection import FIRST_LOOK
from tests.support.cli import lazyfs, mounted, status, successions
from tests.support.fault_server import FaultServer, of_directory
from tests.support.images import image, live
from tests.support.repository import Published
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

SELDOM = ("--refresh", "1000")


@pytest.fixture
def images(tmp_path: Path) -> Published:
    """A repository of the image lib/a:1."""
    found = Published(tmp_path / "images")
    publish(found, "a:1")
    return found


def publish(images: Published, *names: str) -> None:
    """Publishes a revision with these images in lib/, each of one file `f` with the image's name."""
    objects = images.objects
    images.commit(live(objects, {"lib": {name: image(objects, {"f": name.encode()}) for name in names}}))


def reading(file: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["cat", file], stdout=subprocess.PIPE)


def states(pid: int) -> set[str]:
    """Returns the states of a process's threads, such as S or D."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # the thread has ended
            found.add(task.read_text().rpartition(")")[2].split()[0])
    return found


def test_a_name_that_a_new_revision_adds_is_found_at_once(images: Published, tmp_path: Path) -> None:
    """A mount that begins with a known revision looks for a newer one. It tells the kernel to drop the very
    name for which this lookup waits."""
    seconds, names = [], ["a:1"]
    for number in range(4):
        with mounted(images.store, tmp_path / "mnt", "--cache", tmp_path / "cache", *SELDOM) as mnt:
            if number:
                began = time.monotonic()
                assert (mnt / "lib" / names[-1] / "f").read_text() == names[-1]
                seconds.append(time.monotonic() - began)
            else:
                os.listdir(mnt / "lib")
        names.append(f"b:{number}")
        publish(images, *names)
    assert min(seconds) < FIRST_LOOK


@contextmanager
def site(tmp_path: Path, *repositories: str) -> Iterator[Path]:
    """Mounts a site whose repositories are soon too old to be served. `repositories`: the lines for them in
    its configuration."""
    settings, mnt = tmp_path / "site.toml", tmp_path / "mnt"
    settings.write_text("\n".join(["max_stale = 1.0", "refresh = 0.3", "patience = 100.0", *repositories]))
    mnt.mkdir()
    lazyfs("mount", mnt, "--config", settings, "--cache", tmp_path / "cache", "--log", tmp_path / "log")
    try:
        yield mnt
    finally:
        lazyfs("umount", mnt)


def let_expire(images: Published) -> None:
    """Signs the newest revision anew, so that its signature expires after three seconds."""
    lazyfs("repo", "resign", images.store, "--expiry", "0.00003", "--keys", images.keys)


def test_a_repository_that_is_shown_again_answers_the_lookup_that_opened_it(
    images: Published, tmp_path: Path
) -> None:
    """The lookup is in a folder that the kernel knows from before the withdrawal, and whose names change."""
    with site(tmp_path, '[repositories."test.example.org"]', f'url = "{images.store}"') as mnt:
        folder = os.open(mnt / "test.example.org/lib", os.O_RDONLY)
        try:
            assert os.stat("a:1/f", dir_fd=folder).st_size == 3
            let_expire(images)
            until(lambda: "shown no longer" in (tmp_path / "log").read_text())
            publish(images, "a:1", "b:1")
            assert os.stat("b:1/f", dir_fd=folder).st_size == 3
        finally:
            os.close(folder)


def test_a_successor_answers_lookups_in_a_folder_that_changed_before_it_came(
    images: Published, tmp_path: Path
) -> None:
    """Two mounts share what is trusted, so that the successor begins at a revision which the killed daemon
    did not show yet."""
    cache = ("--cache", tmp_path / "cache", *SELDOM)
    with (
        mounted(images.store, tmp_path / "one", *cache) as one,
        mounted(images.store, tmp_path / "two", *cache) as two,
    ):
        assert {(mnt / "lib/a:1/f").read_text() for mnt in (one, two)} == {"a:1"}
        publish(images, "a:1", "b:1")
        lazyfs("refresh", one)
        os.kill(status(two)["pid"], signal.SIGKILL)
        with reading(two / "lib/b:1/f") as reader:
            try:
                assert reader.communicate(timeout=60)[0] == b"b:1"
            finally:
                end(two, reader)
        until(lambda: successions(two) == 1)
        assert (two / "lib/a:1/f").read_text() == "a:1"


def test_a_daemon_killed_while_it_tells_the_kernel_of_a_change_has_a_successor(
    images: Published, tmp_path: Path
) -> None:
    """Its thread waits in the kernel, unkillable, for a lookup in the site's folder that only a daemon can
    answer: that of another repository, whose server is slow."""
    slow = Published(tmp_path / "slow", "slow.example.org")
    publish(slow, "s:1")
    go_on, content = threading.Event(), of_directory(slow.store)

    def late(path: str) -> bytes | None:
        assert go_on.wait(120)
        return content(path)

    with FaultServer(late) as server:
        there = f'[repositories."test.example.org"]\nurl = "{images.store}"'
        far = f'[repositories."slow.example.org"]\nurl = "{server.url}"'
        far += f'\ntrust = "{slow.store}/metadata/1.root.json"'
        with site(tmp_path, there, far) as mnt:
            assert (mnt / "test.example.org/lib/a:1/f").read_text() == "a:1"
            daemon = status(mnt)["pid"]
            with reading(mnt / "slow.example.org/lib/s:1/f") as reader:
                try:
                    until(lambda: server.connections > 0)
                    let_expire(images)
                    until(lambda: "D" in states(daemon))
                    os.kill(daemon, signal.SIGKILL)
                    until(lambda: successions(mnt) == 1, 60)
                    go_on.set()
                    assert reader.communicate(timeout=60)[0] == b"s:1"
                finally:
                    go_on.set()
                    end(mnt, reader)


def end(mnt: Path, reader: "subprocess.Popen[bytes]") -> None:
    """Aborts a mount on which a reader hangs, so that nothing else hangs after this test has failed."""
    if reader.poll() is None:
        subprocess.run(["umount", "--force", "--lazy", mnt], check=True)
