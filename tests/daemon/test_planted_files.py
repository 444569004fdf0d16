"""Another user puts files in the way of root's mount. The mount neither changes their owner nor writes to
them."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.system import mountpoint as points
from tests.support.cli import lazyfs, mounted, status
from tests.support.images import live
from tests.support.repository import Published

pytestmark = pytest.mark.root
NOBODY = pwd.getpwnam("nobody").pw_uid
PRECIOUS = "precious\n"


@pytest.fixture
def published(open_path: Path) -> Published:
    found = Published(open_path)
    found.commit(live(found.objects, {"f": b"content"}))
    return found


@pytest.fixture
def victim(open_path: Path) -> Iterator[Path]:
    """Yields a file of root's; asserts at the end that its content and owner have not changed."""
    path = open_path / "victim"
    path.write_text(PRECIOUS)
    path.chmod(0o600)
    yield path
    assert path.read_text() == PRECIOUS
    assert path.stat().st_uid == 0


def _planted(path: Path, target: Path) -> None:
    path.symlink_to(target)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _refused(published: Published, *options: str | Path) -> str:
    mnt = published.store.parent / "mnt"
    mnt.mkdir(exist_ok=True)
    done = lazyfs("mount", published.store, mnt, *options, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert points.find(str(mnt)) is None
    return done.stderr


def test_a_directory_of_roots_is_not_given_away_through_a_link(published: Published, open_path: Path) -> None:
    (open_path / "roots").mkdir()
    (open_path / "users").mkdir()
    os.chown(open_path / "users", NOBODY, NOBODY)
    _planted(open_path / "users/cache", open_path / "roots")
    said = _refused(published, "--cache", open_path / "users/cache", "--user", "nobody")
    assert "Permission denied" in said or "belongs to user 0" in said
    assert (open_path / "roots").stat().st_uid == 0


def test_a_directory_with_files_of_roots_is_not_given_away(
    published: Published, open_path: Path, victim: Path
) -> None:
    said = _refused(published, "--cache", open_path, "--user", "nobody")
    assert "belongs to root and holds files, which nobody would get" in said
    assert open_path.stat().st_uid == 0


def test_users_have_caches_where_they_may_make_them(published: Published, open_path: Path) -> None:
    (open_path / "users").mkdir()
    os.chown(open_path / "users", NOBODY, NOBODY)
    (open_path / "all").mkdir()
    (open_path / "all").chmod(0o1777)
    for cache in ("users/deep/cache", "all/cache", "roots/cache"):
        with mounted(
            published.store, open_path / "mnt", "--cache", open_path / cache, "--user", "nobody"
        ) as mnt:
            assert (mnt / "f").read_bytes() == b"content"
            assert (open_path / cache).stat().st_uid == NOBODY
            assert status(mnt)["journal"] == ""


@pytest.mark.parametrize("place", ["state", "state/mounts"])
def test_state_that_another_user_made_is_refused(
    published: Published, open_path: Path, victim: Path, place: str
) -> None:
    scratch = open_path / "scratch"
    scratch.mkdir()
    scratch.chmod(0o1777)
    made = scratch / place
    made.mkdir(parents=True)
    for path in (made, *made.parents):
        if path == scratch:
            break
        os.chown(path, NOBODY, NOBODY)
    _planted(made / "link", victim)
    said = _refused(published, "--cache", scratch)
    assert f"{scratch}/state belongs to user {NOBODY} (nobody), who could put anything there" in said


@pytest.mark.parametrize("name", ["state", "objects"])
def test_a_link_in_place_of_a_part_of_the_cache_is_refused(
    published: Published, open_path: Path, name: str
) -> None:
    (open_path / "roots").mkdir()
    scratch = open_path / "scratch"
    scratch.mkdir()
    scratch.chmod(0o1777)
    _planted(scratch / name, open_path / "roots")
    assert f"{scratch}/{name} is a link of user {NOBODY}" in _refused(published, "--cache", scratch)
    assert os.listdir(open_path / "roots") == []


def test_a_cache_in_a_directory_that_others_may_write_is_refused(
    published: Published, open_path: Path
) -> None:
    scratch = open_path / "scratch"
    scratch.mkdir()
    scratch.chmod(0o777)
    said = _refused(published, "--cache", scratch / "cache")
    assert f"others than user 0 (root) may write to {scratch}" in said
    assert f"chmod go-w {scratch}" in said
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("option", ["--log", "--trace"])
def test_a_link_of_another_user_is_no_log(
    published: Published, open_path: Path, victim: Path, option: str
) -> None:
    _planted(open_path / "log", victim)
    said = _refused(published, "--cache", open_path / "cache", option, open_path / "log")
    assert f"{option} {open_path}/log: {open_path}/log is a link of user {NOBODY} (nobody)" in said


def test_a_lock_of_another_user_is_not_taken(
    published: Published, open_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users could write to the runtime directory, so it is refused as a whole."""
    run = open_path / "run"
    run.mkdir()
    run.chmod(0o777)
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(run))
    assert f"may write to {run}" in _refused(published, "--cache", open_path / "cache")
