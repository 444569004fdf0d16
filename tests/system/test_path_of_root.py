"""What root makes for somebody else, and how that somebody cannot have it be another thing."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.system.path_of_root import path_of_root

pytestmark = pytest.mark.root
NOBODY = 65534
MAKE_OWN = (
    "import sys; from lazyfs.daemon.privileges import Privileges; Privileges('nobody').make_own(sys.argv[1])"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of root's that everybody can enter."""
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    return tmp_path


def home_of_nobody(place: Path) -> Path:
    home = place / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    return home


def make_own(directory: Path) -> str:
    """In a process of its own, which gives up root; returns what it says."""
    done = subprocess.run(
        [sys.executable, "-c", MAKE_OWN, str(directory)], capture_output=True, text=True, check=False
    )
    return done.stderr


def owner(path: Path) -> int:
    return path.stat().st_uid


def test_links_of_root_are_followed_as_far_as_the_path_exists(place: Path) -> None:
    (place / "real/inner").mkdir(parents=True)
    (place / "link").symlink_to("real/../real")
    assert path_of_root(f"{place}/link/inner") == f"{place}/real/inner"
    assert path_of_root(f"{place}/link/no/such") == f"{place}/real/no/such"
    (place / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        path_of_root(f"{place}/loop")


def test_what_others_can_change_is_refused(place: Path) -> None:
    home = home_of_nobody(place)
    with pytest.raises(UsageError, match=re.escape(f"{home} belongs to user {NOBODY}")):
        path_of_root(f"{home}/cache")
    (place / "link").symlink_to(place)
    os.lchown(place / "link", NOBODY, NOBODY)
    with pytest.raises(UsageError, match=f"link of user {NOBODY}".replace(" of", f" {place}/link of")):
        path_of_root(f"{place}/link/cache")
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    with pytest.raises(UsageError, match="others than root can write"):
        path_of_root(f"{place}/open/cache")
    (place / "open").chmod(0o1777)
    assert path_of_root(f"{place}/open/cache") == f"{place}/open/cache"


@pytest.mark.parametrize("below", ["", "/made"])
def test_a_link_in_the_users_home_gives_nothing_of_roots_away(below: str, place: Path) -> None:
    """root's `mount --user nobody --cache ~nobody/cache` made nobody the owner of /etc."""
    home = home_of_nobody(place)
    roots = place / "etc"
    roots.mkdir()
    (home / "cache").symlink_to(roots)
    assert "belongs to user 65534" in make_own(Path(f"{home}/cache{below}"))
    assert owner(roots) == 0
    assert not list(roots.iterdir())


def test_the_cache_is_the_users_where_root_or_the_user_makes_it(place: Path) -> None:
    home = home_of_nobody(place)
    (place / "there").mkdir()
    (place / "link").symlink_to("there")
    for directory in (home / "a/cache", place / "var/cache/lazyfs", place / "there", place / "link"):
        assert make_own(directory) == ""
        assert owner(directory) == NOBODY
        assert make_own(directory) == ""
    assert owner(place / "var/cache") == 0
    assert stat.S_IMODE((place / "var/cache/lazyfs").stat().st_mode) == 0o700


def test_a_directory_of_a_third_is_refused(place: Path) -> None:
    (place / "theirs").mkdir()
    os.chown(place / "theirs", 1234, 1234)
    assert "belongs to user 1234, who could put anything into it" in make_own(place / "theirs")
    assert owner(place / "theirs") == 1234
