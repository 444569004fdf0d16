"""Trust on a live mount: key rotation, expiry, an origin that dies and comes back."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.daemon.session_choice import KINDS
from lazyfs.system import mountpoint as points
from tests.support.cli import lazyfs, mounted, serving, status
from tests.support.counts import count
from tests.support.images import image, live
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root
NAME = "test.example.org"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives the test a runtime directory of its own. At the end, unmounts everything that is mounted below
    `tmp_path`."""
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    yield
    for mount in points.mounts():
        if mount.mountpoint.startswith(str(tmp_path)):
            points.unmount(mount.mountpoint)


class Site:
    """A repository whose revision N has one image with a file `n`, whose content is N."""

    def __init__(self, directory: Path) -> None:
        self.published = Published(directory)
        self.store, self.keys = self.published.store, self.published.keys
        self.number = 1  # the empty revision
        self.publish()

    def publish(self) -> int:
        self.number += 1
        objects = self.published.objects
        content = {"n": b"%d" % self.number, "big": b"x" * 300_000}
        assert self.published.commit(live(objects, {"lib": {"a:1": image(objects, content)}})) == self.number
        return self.number

    def repo(self, command: str, *words: str) -> None:
        lazyfs("repo", command, self.store, *words, "--keys", self.keys)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def shown(mnt: Path) -> int:
    return int((mnt / "lib/a:1/n").read_bytes())


def refuses(mnt: Path) -> bool:
    try:
        shown(mnt)
    except OSError as error:
        return error.errno == errno.EIO
    return False


def test_keys_are_replaced_under_a_live_mount(site: Site, tmp_path: Path) -> None:
    root = site.store / "metadata/1.root.json"
    with (
        serving(site.store) as url,
        mounted(url, tmp_path / "mnt", "--cache", tmp_path / "cache", "--trust", root) as mnt,
    ):
        before = shown(mnt)
        held = os.open(mnt / "lib/a:1/n", os.O_RDONLY)
        for role in ("timestamp", "targets", "root"):
            site.repo("rotate", role)
            assert f"{NAME}: no news" in lazyfs("refresh", mnt).stdout
        number = site.publish()
        assert "new revision" in lazyfs("refresh", mnt).stdout
        assert shown(mnt) == number
        assert int(os.pread(held, 10, 0)) == before
        os.close(held)
        trust = status(mnt)["repositories"][NAME]["trust"]
        assert (trust["root_version"], trust["error"]) == (4, "")


def test_an_expired_repository_goes_on_serving_and_forbids_a_first_mount(site: Site, tmp_path: Path) -> None:
    root = ("--trust", site.store / "metadata/1.root.json")
    with serving(site.store) as url:
        with mounted(url, tmp_path / "mnt", "--cache", tmp_path / "cache", *root) as mnt:
            before = shown(mnt)
            site.repo("resign", "--expiry", "0.0001")  # it expires in nine seconds, after the refresh
            lazyfs("refresh", mnt)
            until(lambda: status(mnt)["repositories"][NAME]["trust"]["expired"], 30)
            assert "which expired on" in lazyfs("refresh", mnt, check=False).stdout
            assert shown(mnt) == before
        with mounted(url, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
            assert shown(mnt) == before
            # the mount answers with the saved revision at once, and then looks for a newer one
            until(lambda: "expired" in status(mnt)["repositories"][NAME]["warning"], 30)
        first = lazyfs("mount", url, tmp_path / "mnt", "--cache", tmp_path / "cache2", *root, check=False)
        assert first.returncode == 1
        assert "expired on" in first.stderr
        assert first.stderr.count("\n") == 1
        site.repo("resign")
        with mounted(url, tmp_path / "mnt", "--cache", tmp_path / "cache2", *root) as mnt:
            assert shown(mnt) == before


def test_a_mount_that_may_not_serve_what_is_stale_ends(site: Site, tmp_path: Path) -> None:
    options = ("--cache", tmp_path / "cache", "--max-stale", "1", "--refresh", "0.2")
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", site.store, mnt, *options, "--log", tmp_path / "log")
    site.repo("resign", "--expiry", "0.00005")  # it expires in four seconds
    until(lambda: points.find(str(mnt)) is None, 30)
    until(lambda: "longer ago than --max-stale 1 s" in (tmp_path / "log").read_text())
    refused = lazyfs("mount", site.store, mnt, *options, check=False)
    assert refused.returncode == 1
    assert "--max-stale 1 s" in refused.stderr


@pytest.mark.parametrize("comes_back_with", [2, 3])
@pytest.mark.parametrize("session", KINDS)
def test_a_repository_of_several_that_is_stale_is_withdrawn_alone(
    session: str, comes_back_with: int, tmp_path: Path
) -> None:
    """If a repository's publisher lets it expire, only that repository is withdrawn. It returns with its
    newest revision, also for programs whose working directory lies in it."""
    fresh, stale = Site(tmp_path / "fresh"), Site(tmp_path / "stale")
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    (tmp_path / "site.toml").write_text(
        f'max_stale = 1.0\nrefresh = 0.2\n[repositories."fresh.example"]\nurl = "{fresh.store}"\n'
        f'[repositories."stale.example"]\nurl = "{stale.store}"\n'
    )
    options = ("--config", tmp_path / "site.toml", "--cache", tmp_path / "cache", "--fuse", session)
    lazyfs("mount", mnt, *options, "--log", tmp_path / "log")
    assert (shown(mnt / "fresh.example"), shown(mnt / "stale.example")) == (2, 2)
    inside = os.open(mnt / "stale.example/lib", os.O_RDONLY)
    stale.repo("resign", "--expiry", "0.00005")  # it expires in four seconds
    until(lambda: "stale.example is shown no longer" in (tmp_path / "log").read_text(), 30)
    until(lambda: refuses(mnt / "stale.example"))  # the kernel learns of the withdrawal a moment later
    assert fresh.publish() == 3
    until(lambda: shown(mnt / "fresh.example") == 3)
    assert list(status(mnt)["repositories"]) == ["fresh.example"]
    if comes_back_with == 3:
        assert stale.publish() == 3
    else:
        stale.repo("resign")
    until(lambda: os.path.isdir(mnt / "stale.example"))
    assert shown(mnt / "stale.example") == comes_back_with
    with open(os.open("a:1/n", os.O_RDONLY, dir_fd=inside), "rb") as file:
        assert int(file.read()) == comes_back_with
    os.close(inside)
    lazyfs("umount", mnt)


def test_a_worker_boots_with_every_server_dead_and_recovers_by_itself(site: Site, tmp_path: Path) -> None:
    cache = ("--cache", tmp_path / "cache", "--patience", "3", "--refresh", "0.5")
    with serving(site.store) as url:
        port = url.rsplit(":", 1)[1]
        with mounted(url, tmp_path / "mnt", *cache, "--trust", site.store / "metadata/1.root.json") as mnt:
            before = shown(mnt)
    with mounted(url, tmp_path / "mnt", *cache) as mnt:
        assert shown(mnt) == before
        started = time.monotonic()
        with pytest.raises(OSError, match="Input/output"):
            (mnt / "lib/a:1/big").read_bytes()
        failed = time.monotonic()
        assert failed - started < 3 + count(10, 1)
        number = site.publish()
        with serving(site.store, port=int(port)):
            until(lambda: shown(mnt) == number, 30)
            time.sleep(max(failed + 1.1 - time.monotonic(), 0))  # other readers share a failure for 1 s
            assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
            assert status(mnt)["repositories"][NAME]["warning"] == ""
