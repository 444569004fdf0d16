"""A new revision whose signed metadata came, but not its objects: a daemon goes on with the revision that it
shows, and so does whoever comes after it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.digest import ObjectRef, object_path
from lazyfs.daemon.session_choice import KINDS
from lazyfs.repository.commit import read_revision
from lazyfs.store import open_store
from tests.support.cli import lazyfs, mounted, serving, status, successions
from tests.support.images import image, live
from tests.support.processes import gone
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root
FILE = "lib/a:1/f"
SHOWN, NEW = 2, 3
"""The revision that holds b"1" in FILE, and the one that holds b"2"."""
WARNING = f"revision {NEW} cannot be shown"


def publish(published: Published, withheld: str) -> Callable[[], object]:
    """Publishes revision NEW, and takes an object of it away from the store. Returns a function that puts the
    object back. `withheld`: "root" or "folder" for a catalog, "history"; with "damaged " before it, the
    object is cut."""
    folder = {"a:1": image(published.objects, {"f": b"2"})}
    root = live(published.objects, {"lib": folder})
    assert published.commit(root) == NEW
    history = read_revision(open_store(str(published.store))).history
    assert history is not None
    refs: dict[str, ObjectRef] = {
        "root": root.ref,
        "folder": live(published.objects, folder).ref,
        "history": history,
    }
    path = published.store / object_path(refs[withheld.rpartition(" ")[2]].digest)
    stored = path.read_bytes()
    path.unlink()
    if withheld.startswith("damaged"):
        path.write_bytes(stored[:-7])
    return lambda: path.write_bytes(stored)


def repository(mnt: Path) -> Any:
    """Returns the status of the mount's only repository."""
    (found,) = status(mnt)["repositories"].values()
    return found


@pytest.mark.parametrize("withheld", ["root", "damaged root", "folder"])
def test_that_its_daemon_is_killed_is_noticed_by_no_reader(
    withheld: str, published: Published, tmp_path: Path
) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        assert (mnt / FILE).read_bytes() == b"1"
        mend = publish(published, withheld)
        assert WARNING in lazyfs("refresh", mnt, check=False).stdout
        assert f"revision {SHOWN} of" in lazyfs("status", mnt).stdout
        assert f"warning: {WARNING}" in lazyfs("status", mnt).stdout
        pid = status(mnt)["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: gone(pid))
        assert (mnt / FILE).read_bytes() == b"1"
        assert sorted(os.listdir(mnt / "lib/a:1")) == ["big", "f"]
        assert not (mnt / "lib/a:1/none").exists()
        until(lambda: successions(mnt) == 1)
        until(lambda: WARNING in repository(mnt)["warning"])
        assert (mnt / FILE).read_bytes() == b"1"
        mend()
        lazyfs("refresh", mnt)
        until(lambda: (mnt / FILE).read_bytes() == b"2")
        assert (repository(mnt)["revision"], repository(mnt)["warning"]) == (NEW, "")


@pytest.mark.parametrize("session", KINDS)
def test_a_mount_is_made_with_every_server_dead(session: str, published: Published, tmp_path: Path) -> None:
    options = ("--cache", tmp_path / "cache", "--fuse", session)
    trust = ("--trust", published.store / "metadata/1.root.json")
    with serving(published.store) as url, mounted(url, tmp_path / "mnt", *options, *trust) as mnt:
        assert (mnt / FILE).read_bytes() == b"1"
        mend = publish(published, "root")
        assert WARNING in lazyfs("refresh", mnt, check=False).stdout
    with mounted(url, tmp_path / "mnt", *options) as mnt:
        assert (mnt / FILE).read_bytes() == b"1"
        found = repository(mnt)
        assert (found["revision"], found["trust"]["revision"]) == (SHOWN, NEW)
    mend()
    with serving(published.store, int(url.rpartition(":")[2])), mounted(url, mnt, *options):
        until(lambda: (mnt / FILE).read_bytes() == b"2")


def test_a_repository_of_several_is_shown_again(published: Published, tmp_path: Path) -> None:
    config, mnt = tmp_path / "site.toml", tmp_path / "mnt"
    config.write_text(f'[repositories."one.example"]\nurl = "{published.store}"\n')
    mnt.mkdir()
    for change in (lambda: publish(published, "root"), lambda: None):
        lazyfs("mount", mnt, "--config", config, "--cache", tmp_path / "cache")
        assert (mnt / "one.example" / FILE).read_bytes() == b"1"
        change()
        lazyfs("refresh", mnt, check=False)
        assert (repository(mnt)["revision"], WARNING in repository(mnt)["warning"]) == (SHOWN, True)
        lazyfs("umount", mnt)


def test_a_chosen_revision_is_found_in_the_history_that_can_be_had(
    published: Published, tmp_path: Path
) -> None:
    options = ("--cache", tmp_path / "cache", "--revision", str(SHOWN))
    for change in (lambda: publish(published, "damaged history"), lambda: None):
        with mounted(published.store, tmp_path / "mnt", *options) as mnt:
            assert (mnt / FILE).read_bytes() == b"1"
            change()
            lazyfs("refresh", mnt)
            assert (repository(mnt)["revision"], repository(mnt)["trust"]["revision"]) == (SHOWN, NEW)
