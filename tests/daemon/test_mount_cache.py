"""A mount answers from the values of a warm cache before the cache is opened."""

import fcntl
import os
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, mounted, serving, status
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root


def test_a_warm_mount_answers_while_another_process_holds_the_lock_of_the_cache(
    published: Published, tmp_path: Path
) -> None:
    mnt, cache, log = tmp_path / "mnt", tmp_path / "cache", tmp_path / "log"
    with serving(published.store) as url:
        with mounted(url, mnt, "--cache", cache, "--trust", published.store / "metadata/1.root.json"):
            assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
        with open(cache / "objects/lock", "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with mounted(url, mnt, "--cache", cache, "--log", log):
                assert os.listdir(mnt / "lib") == ["a:1"]
                until(lambda: "no cache: " in log.read_text())
                assert "another process holds its lock" in log.read_text()
                assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
                assert status(mnt)["cache"]["state"].startswith("off: ")


@pytest.mark.parametrize("options", [("--cache-limit", "200M"), ("--cache-policy", "sieve")])
def test_a_mount_that_sets_another_limit_or_policy_opens_the_cache_first(
    options: tuple[str, str], published: Published, tmp_path: Path
) -> None:
    """The command has to be told if the cache does not follow."""
    mnt, cache, log = tmp_path / "mnt", tmp_path / "cache", tmp_path / "log"
    trust = published.store / "metadata/1.root.json"
    with serving(published.store) as url:
        with mounted(url, mnt, "--cache", cache, "--trust", trust):
            pass
        with open(cache / "objects/lock", "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = lazyfs("mount", url, mnt, "--cache", cache, "--log", log, *options, check=False)
        assert done.returncode == 2
        assert "another process holds its lock" in done.stderr
        assert not os.path.ismount(mnt)
