"""The index of a cache is lost or replaced while several processes have the cache open."""

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from lazyfs_cache import Cache, open_cache
from lazyfs_cache.files import directory, layout, state_file
from lazyfs_cache.files.journal import Journal
from lazyfs_cache.process.adopting import adopt
from lazyfs_cache.process.locks import IndexLock
from tests.support.cachefill import Child, key_of, lose_index, value_of
from tests.support.until import until
from tests.support.usage import Sampler, disk_usage

LIMIT = 16 << 20


def test_a_rebuild_leaves_the_values_that_others_are_storing_to_them(tmp_path: Path) -> None:
    """Such a value is charged to its process until that enters it. If the rebuild entered it too, its bytes
    would leave the account twice."""
    key = key_of(1)
    with open_cache(str(tmp_path), LIMIT, upkeep=False) as cache:
        assert cache.put(key, value_of(key))
    with open_cache(str(tmp_path), LIMIT, upkeep=False) as cache:
        shared, number = cache._shared, layout.directory_of(key)
        with shared.transaction() as transaction:
            assert transaction is not None
            entry = transaction.entry(key)
            assert entry is not None
            transaction.forget(key, entry)
            transaction.sums.unscanned = 10 << 20
            with closing(Journal(str(tmp_path), transaction.add_owner(above=0))) as other:
                assert other.arriving([0], [key])
                adopt(transaction, shared.files, number, shared.files.names(number))
                assert transaction.entry(key) is None
                assert transaction.sums.unscanned == 10 << 20
                assert other.arriving([0], [key_of(2)])
                adopt(transaction, shared.files, number, shared.files.names(number))
                assert transaction.entry(key) is not None
                assert transaction.sums.unscanned < 10 << 20


@pytest.mark.parametrize(
    "killed_in", [(state_file, "save"), (IndexLock, "set_generation"), (directory, "set_index_aside")]
)
def test_one_killed_while_it_begins_another_index_leaves_all_with_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: tuple[object, str]
) -> None:
    root, alone, together = str(tmp_path / "cache"), tmp_path / "alone", tmp_path / "together"

    def use(ready: Callable[[], None]) -> None:
        with open_cache(root, LIMIT) as cache:
            fill(cache, range(100))
            ready()
            until(alone.exists, 60)
            until(lambda: fill(cache, range(100, 110)) == 10, 60)
            ready()
            until(together.exists, 60)
            fill_whole(cache, range(110, 600))
            ready()
            until(lambda: not together.exists(), 60)

    def die(_: Callable[[], None]) -> None:
        cache = open_cache(root, LIMIT, upkeep=False)
        monkeypatch.setattr(*killed_in, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        lose_index(cache)

    user = Child(use)
    user.wait_until_ready()
    assert Child(die).join() == -signal.SIGKILL
    alone.touch()
    user.wait_until_ready()
    with open_cache(root, None) as cache, Sampler(tmp_path / "cache") as sampler:
        together.touch()
        fill_whole(cache, range(600, 1100))
        user.wait_until_ready()
        assert disk_usage(tmp_path / "cache") <= cache.stats().charged <= LIMIT
        together.unlink()
        assert user.join() == 0
    assert sampler.most <= LIMIT
    with open_cache(root, None):
        assert len(list((tmp_path / "cache").glob("index-[0-9]*"))) == 1


def fill_whole(cache: Cache, numbers: range) -> None:
    """Puts values while the index may be rebuilt, when few are taken, and again afterwards, when all are."""
    fill(cache, numbers)
    until(lambda: cache.stats().state == "on", 60)
    assert fill(cache, numbers) == len(numbers)


def fill(cache: Cache, numbers: Iterable[int]) -> int:
    """Puts values; returns how many of them the cache has taken."""
    return sum(cache.put(key_of(number), value_of(key_of(number))) for number in numbers)
