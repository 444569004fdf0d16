"""A process that closes the cache is killed, or another process opens the cache meanwhile."""

import os
import signal
import threading
from pathlib import Path

import msgspec
import pytest

from lazyfs_cache import open_cache
from lazyfs_cache.files import journal, layout, state_file
from lazyfs_cache.files.journal import Journal
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.process import agreement, current_index
from lazyfs_cache.process.membership import Membership
from tests.support.cachefill import key_of
from tests.support.usage import disk_usage

LIMIT = 32 << 20


def killed(root: Path, monkeypatch: pytest.MonkeyPatch, *, before: str) -> None:
    """Runs a process that fills a cache and closes it. The process is killed when its close is about to call
    the method `before` of Transaction."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        cache = open_cache(str(root), LIMIT, upkeep=False)
        for number in range(12):
            cache.put(key_of(number), os.urandom(100_000))
        monkeypatch.setattr(Transaction, before, die)
        cache.close()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("before", ["pins_of", "drop_owner", "insert"])
def test_killed_while_closing_nothing_is_without_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    root = tmp_path / "cache"
    killed(root, monkeypatch, before=before)
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        cache.upkeep()
        stats = cache.stats()
        assert disk_usage(root) <= stats.charged
        assert {key for key, _ in cache.entries()} == {
            key_of(number) for number in range(12) if cache.get(key_of(number)) is not None
        }
        assert before == "insert" or stats.entries == 12
        cache.evict(LIMIT)
        assert not any(files for _, _, files in os.walk(root / layout.DATA))


def test_what_could_not_be_entered_at_the_end_is_left_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last transaction fails with a disk error. The index is then not marked as clean, and the next
    process reads the journal."""
    root = tmp_path / "cache"
    cache = open_cache(str(root), LIMIT, upkeep=False)
    assert cache.put(b"key", bytes(100_000))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(Transaction, "insert", full)
        cache.close()
    assert not msgspec.json.decode((root / layout.STATE).read_bytes(), type=state_file.CacheState).clean
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        cache.upkeep()
        assert disk_usage(root) <= cache.stats().charged
        assert (cache.get(b"key") is None) == (cache.stats().entries == 0)


def test_who_comes_while_another_leaves_takes_the_clean_mark_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cache"
    leaving, come = threading.Event(), threading.Event()
    close = Membership.close

    def slowly(self: Membership) -> None:
        leaving.set()
        assert come.wait(20)
        close(self)

    first = open_cache(str(root), LIMIT, upkeep=False)
    with monkeypatch.context() as slow:
        slow.setattr(Membership, "close", slowly)
        thread = threading.Thread(target=first.close)
        thread.start()
        assert leaving.wait(20)
    second = open_cache(str(root), LIMIT // 2, policy="sieve", upkeep=False)
    come.set()
    thread.join()
    assert (second.stats().limit, second.stats().policy) == (LIMIT // 2, "sieve")
    monkeypatch.setattr(agreement, "boot_id", lambda: "after a power cut")
    found = agreement.agree(str(root), LIMIT, None, alone=True)
    assert found.generation == second.generation + 1, "an index in use is not believed after a power cut"


def test_a_failed_opening_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path / "cache")
    open_cache(root, LIMIT).close()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(current_index, "Journal", full)
        with pytest.raises(Exception, match="No space left"):
            open_cache(root, LIMIT)
    open_cache(root, LIMIT).close()


def test_a_journal_that_is_closed_is_not_written_to(tmp_path: Path) -> None:
    """A thread may put a value while another thread switches to a new index. By then the descriptor number of
    the closed journal may belong to another file."""
    (tmp_path / layout.TMP).mkdir()
    old = Journal(str(tmp_path), 1)
    assert old.arriving([0], [b"key"])
    old.close()
    old.close()
    new = Journal(str(tmp_path), 2)
    assert not old.arriving([1], [b"late"])
    assert journal.read(str(tmp_path), 1) == [b"key"]
    assert journal.read(str(tmp_path), 2) == []
    new.close()
