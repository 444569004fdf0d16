"""The cache directory that root makes for the user of a mount: no link of the user's leads root elsewhere."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root
NOBODY = 65534
MAKE_OWN = (
    "import sys; from lazyfs.daemon.privileges import Privileges; Privileges('nobody').make_own(sys.argv[1])"
)


@pytest.fixture
def place(open_path: Path) -> Path:
    """Returns a directory that belongs to root and that everybody can enter."""
    return open_path


def home_of_nobody(place: Path) -> Path:
    home = place / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    return home


def make_own(directory: Path) -> str:
    """Makes the user's cache directory in a separate process that drops root's rights; returns the stderr."""
    done = subprocess.run(
        [sys.executable, "-c", MAKE_OWN, str(directory)], capture_output=True, text=True, check=False
    )
    return done.stderr


def owner(path: Path) -> int:
    return path.stat().st_uid


@pytest.mark.parametrize("below", ["", "/made"])
def test_a_link_in_the_users_home_gives_nothing_of_roots_away(below: str, place: Path) -> None:
    """Regression: root's `mount --user nobody --cache ~nobody/cache` made nobody the owner of /etc."""
    home = home_of_nobody(place)
    roots = place / "etc"
    roots.mkdir()
    (home / "cache").symlink_to(roots)
    assert "UsageError: cache directory" in make_own(Path(f"{home}/cache{below}"))
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
    assert "belongs to user 1234, who could put anything there" in make_own(place / "theirs")
    assert owner(place / "theirs") == 1234
