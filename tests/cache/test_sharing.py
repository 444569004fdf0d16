"""Several processes on one cache directory: one limit, one download of each value, and no harm when a process
dies."""

import fcntl
import functools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs_cache import Cache, open_cache
from lazyfs_cache import open_caches as opened
from lazyfs_cache.files import layout
from lazyfs_cache.files.ownership import check_contents
from lazyfs_cache.process.download_locks import DownloadLocks
from lazyfs_cache.process.health import Health
from tests.support.cachefill import Child, key_of, value_of
from tests.support.counts import count
from tests.support.until import until
from tests.support.usage import Sampler, disk_usage

LIMIT = 200 << 20
PROCESSES = 8
KEYS = 1500
"""The number of keys. All their values take about 190 MB, which is too much for the limit."""


class Downloads:
    """An origin that detects two simultaneous downloads of one value: each download creates a file that must
    not exist."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)

    def fetch(self, key: bytes) -> bytes:
        mark = self._directory / key.hex()
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        try:
            with (self._directory.parent / "count").open("ab") as total:
                total.write(b".")
            return value_of(key)
        finally:
            mark.unlink()


def read_through(cache: Cache, origin: Downloads, key: bytes) -> bytes:
    """Reads a value as a client does: look, claim, look again, download, admit."""
    while (value := cache.get(key)) is None:
        claim = cache.claim(key)
        if claim is None:
            assert cache.wait(key, 30), "a claim did not end"
            continue
        with claim:
            value = cache.get(key)
            if value is None:
                with cache.reserve(key, len(value_of(key))) or _nothing() as held:
                    value = origin.fetch(key)
                    cache.put(key, value, held)
            return value
    return value


class _nothing:  # noqa: N801
    def __enter__(self) -> None:
        return None

    def __exit__(self, *args: object) -> None:
        pass


def use(root: Path, origin: Downloads, seed: int, seconds: float, ready: Callable[[], None]) -> None:
    source = random.Random(seed)
    end = time.monotonic() + seconds
    with open_cache(str(root), LIMIT) as cache:
        ready()
        while time.monotonic() < end:
            key = key_of(int(KEYS * source.random() ** 2))
            assert read_through(cache, origin, key) == value_of(key)
            stats = cache.stats()
            assert stats.state == "on"
            assert stats.charged <= stats.limit
        assert stats.refused == 0
        assert stats.damaged == 0


@pytest.mark.timeout(240)
def test_eight_processes_fill_and_read_one_cache(tmp_path: Path) -> None:
    origin = Downloads(tmp_path / "downloading")
    root = tmp_path / "cache"
    seconds = count(4, 60)
    children = [Child(functools.partial(use, root, origin, seed, seconds)) for seed in range(PROCESSES)]
    with Sampler(tmp_path / "cache") as sampler:
        codes = [child.join() for child in children]
    assert codes == [0] * PROCESSES
    assert sampler.samples > seconds
    assert sampler.most <= LIMIT
    downloads = (tmp_path / "count").stat().st_size
    assert downloads > 100
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        cache.upkeep()
        assert cache.verify().damaged == 0


def test_a_file_that_another_process_renames_meanwhile_prevents_no_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: of eight processes that opened one cache at once, one found a new state.json listed that
    had its name by then."""
    new = tmp_path / "state.json.new"
    new.touch()
    scandir = os.scandir

    @contextmanager
    def listed(path: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as entries:
            found = list(entries)
        new.rename(tmp_path / "state.json")
        yield found

    monkeypatch.setattr(os, "scandir", listed)
    check_contents(str(tmp_path))


def hold_a_claim(root: Path, ready: Callable[[], None]) -> None:
    with open_cache(str(root), LIMIT) as cache:
        assert cache.claim(b"key") is not None
        assert cache.reserve(b"key", 50 << 20) is not None
        ready()
        time.sleep(600)


def test_a_death_frees_claim_and_space(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    child = Child(functools.partial(hold_a_claim, root))
    child.wait_until_ready()
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        assert cache.claim(b"key") is None
        assert not cache.wait(b"key", 0.05)
        assert cache.stats().reserved > 50 << 20
        child.kill()
        assert cache.wait(b"key", 10)
        assert cache.claim(b"key") is not None
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        assert cache.stats().reserved < 1 << 20


def shrink_and_pin(root: Path, ready: Callable[[], None]) -> None:
    # waits until the parent has opened the cache, which sets the limit too
    until((root.parent / "open").exists)
    with open_cache(str(root), None) as cache:
        cache.resize(LIMIT // 4)
        assert cache.keep(b"from the other", {b"pinned": 5}) == 1
        ready()


def test_limit_and_pin_sets_are_everyones(tmp_path: Path) -> None:
    """The child is forked before this process opens the cache, and changes the limit and the pins
    afterwards."""
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT) as cache:
        cache.put(b"pinned", b"value")
    child = Child(functools.partial(shrink_and_pin, root))
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        (tmp_path / "open").touch()
        child.wait_until_ready()
        assert child.join() == 0
        for number in range(1200):
            cache.put(key_of(number), value_of(key_of(number)))
            assert cache.stats().charged <= cache.stats().limit == LIMIT // 4
        assert cache.get(b"pinned") == b"value"
        assert cache.kept() == {b"from the other": [b"pinned"]}


def test_a_lock_that_is_not_had_in_time_is_done_without(tmp_path: Path) -> None:
    """Another process holds the lock, because it was stopped inside a transaction."""
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT, lock_timeout=0.3, upkeep=False) as cache:
        assert cache.put(b"here", b"value")
        with (root / layout.LOCK).open() as stopped:
            fcntl.flock(stopped, fcntl.LOCK_EX)
            started = time.monotonic()
            assert cache.get(b"here") == b"value"
            assert cache.reserve(b"key", 50 << 20) is None
            assert not cache.pin(b"here", b"test")
            stats = cache.stats()
            assert 0.6 < time.monotonic() - started < count(30, 5)
            assert (stats.state, stats.limit, stats.refused) == ("on", LIMIT, 1)
        assert cache.reserve(b"key", 50 << 20) is not None
        assert cache.stats().entries == 1


def test_threads_take_turns_at_a_claim(tmp_path: Path) -> None:
    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        first = cache.claim(b"key")
        assert first is not None
        assert cache.claim(b"key") is None
        assert cache.claim(b"other") is not None
        first.release()
        first.release()
        assert cache.wait(b"key", 0)
        with cache.claim(b"key") or pytest.fail("the claim was released"):
            assert not cache.wait(b"key", 0.01)
        assert cache.wait(b"key", 0)


def test_a_forked_child_gets_nothing_from_its_parents_cache(tmp_path: Path) -> None:
    def look(ready: Callable[[], None]) -> None:
        assert cache.get(b"key") is None
        assert not cache.put(b"other", b"value")
        assert cache.stats().state.startswith("off: opened before a fork")
        ready()

    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        assert cache.put(b"key", b"value")
        assert Child(look).join() == 0
        assert cache.get(b"key") == b"value"
        assert cache.put(b"another", b"value")
    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        assert cache.get(b"another") == b"value"


def test_a_forked_child_neither_keeps_nor_ends_its_parents_claims(tmp_path: Path) -> None:
    root = str(tmp_path / "cache")
    go_on, write_end = os.pipe()
    with open_cache(root, LIMIT) as cache:
        others = DownloadLocks(os.path.join(root, layout.DOWNLOADS), Health(root))
        claim = cache.claim(b"key")
        assert claim is not None

        def leave(ready: Callable[[], None]) -> None:
            claim.release()
            ready()
            os.read(go_on, 1)

        child = Child(leave)
        child.wait_until_ready()
        assert others.take(b"key", 0) is None, "a child has ended its parent's claim"
        claim.release()
        assert others.take(b"key", 0) is not None, "a child has kept its parent's claim"
        os.write(write_end, b".")
        assert child.join() == 0
        others.close()


def test_a_fork_while_another_thread_opens_a_cache(tmp_path: Path) -> None:
    def look(ready: Callable[[], None]) -> None:
        with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as cache:
            assert cache.put(b"key", b"value")
        ready()

    with opened._guard:
        child = Child(look)
    child.wait_until_ready()
    assert child.join() == 0


IN_A_NAMESPACE = """
import os, sys
from pathlib import Path
from tests.cache import test_sharing

assert os.getpid() == 1
root, downloading = map(Path, sys.argv[1:3])
seed, seconds = map(int, sys.argv[3:])
origin = test_sharing.Downloads(downloading)
test_sharing.use(root, origin, seed, seconds, lambda: print("ready", flush=True))
"""


def in_a_namespace(root: Path, downloading: Path, seed: int, seconds: int) -> "subprocess.Popen[str]":
    """Starts a process that uses the cache as PID 1 of a new PID namespace. Returns its parent; when the
    parent dies, so does the process."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, "-c", IN_A_NAMESPACE, str(root), str(downloading), str(seed), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.root
@pytest.mark.timeout(240)
def test_pid_namespaces_share_one_cache(tmp_path: Path) -> None:
    """Processes with the same PID in two namespaces, and one in this namespace, use the cache. Meanwhile
    processes in further namespaces are killed."""
    root = tmp_path / "cache"
    origin = Downloads(tmp_path / "downloading")
    seconds = count(5, 60)
    source = random.Random(7)
    kills = 0
    staying = [in_a_namespace(root, tmp_path / "downloading", seed, seconds) for seed in (1, 2)]
    here = Child(functools.partial(use, root, origin, 3, seconds))
    with Sampler(root) as sampler:
        while any(process.poll() is None for process in staying):
            doomed = in_a_namespace(root, tmp_path / f"killed-{kills}", 100 + kills, 600)
            assert doomed.stdout is not None
            assert doomed.stdout.readline() == "ready\n"
            time.sleep(source.uniform(0, 0.3))
            doomed.kill()
            doomed.communicate()
            kills += 1
    assert [process.communicate()[0] for process in staying] == ["ready\n", "ready\n"]
    assert [process.returncode for process in staying] == [0, 0]
    assert here.join() == 0
    assert kills > 2
    assert sampler.most <= LIMIT
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        cache.upkeep()
        stats = cache.stats()
        assert stats.charged * 0.98 <= disk_usage(root) <= stats.charged
        found = cache.verify()
        assert (found.damaged, found.orphans, found.missing) == (0, 0, 0)
        assert found.values == cache.stats().entries > 100
