"""Opening a directory as a cache: directories and users that are refused, and files that are found there."""

import ctypes
import fcntl
import functools
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lazyfs_cache import CacheError, NullCache, UnusableDirectory, open_cache
from lazyfs_cache.files import filesystem, layout
from lazyfs_cache.index import rows
from lazyfs_cache.index.database import Index
from lazyfs_cache.policy import sizes
from lazyfs_cache.process import adopting, agreement
from tests.support.cachefill import Child, key_of, lose_index, value_of
from tests.support.counts import count
from tests.support.measured import Measured
from tests.support.usage import disk_usage

LIMIT = 16 << 20


def test_the_directory_is_its_users_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        cache.put(b"key", b"value")
        for path in (tmp_path / "cache").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_foreign_files_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UnusableDirectory, match="holds files that are not a cache's"):
        open_cache(str(tmp_path), LIMIT)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UnusableDirectory, match="cache: File exists; give another directory"):
        open_cache(str(tmp_path / "cache"), LIMIT)


@pytest.mark.root
def test_another_users_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 12345, 12345)
    with pytest.raises(UnusableDirectory, match="belongs to user 12345"):
        open_cache(str(tmp_path / "cache"), LIMIT)


@pytest.mark.root
def test_a_directory_below_another_users_is_refused(tmp_path: Path) -> None:
    (tmp_path / "his").mkdir()
    os.chown(tmp_path / "his", 12345, 12345)
    with pytest.raises(UnusableDirectory, match="in a directory of user 12345"):
        open_cache(str(tmp_path / "his" / "cache"), LIMIT)


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("lock", lambda path: path.symlink_to("/etc/passwd")),
        ("state.json", lambda path: path.touch()),
        ("data", lambda path: path.mkdir()),
    ],
    ids=["link", "file", "directory"],
)
def test_what_another_user_has_planted_is_refused(
    tmp_path: Path, name: str, planted: Callable[[Path], None]
) -> None:
    """Other users could write to the directory earlier, even if its mode forbids this now."""
    root = tmp_path / "cache"
    root.mkdir()
    planted(root / name)
    os.chown(root / name, 12345, 12345, follow_symlinks=False)
    with pytest.raises(UnusableDirectory, match=f"{name} in it belongs to user 12345"):
        open_cache(str(root), LIMIT)
    root.chmod(0o777)
    with pytest.raises(UnusableDirectory, match="others may write to it, and its files may be theirs"):
        open_cache(str(root), LIMIT)
    assert sorted(os.listdir(root)) == [name]


@pytest.mark.root
def test_the_way_to_a_cache_is_nobody_elses(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all").chmod(0o777)
    with pytest.raises(UnusableDirectory, match=f"others may write to {tmp_path}/all, and could replace it"):
        open_cache(str(tmp_path / "all/cache"), LIMIT)
    (tmp_path / "all").chmod(0o1777)
    open_cache(str(tmp_path / "all/cache"), LIMIT).close()
    (tmp_path / "link").symlink_to("all")
    open_cache(str(tmp_path / "link/cache"), LIMIT).close()
    os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)
    for path in ("link/cache", "link"):
        with pytest.raises(UnusableDirectory, match=f"{tmp_path}/link is a link of user 12345"):
            open_cache(str(tmp_path / path), LIMIT)


@pytest.mark.parametrize("name", ["index-*/data.mdb", "pins/6162.new", "state.json.new", "tmp/*"])
def test_a_link_in_a_cache_leads_nowhere(tmp_path: Path, name: str) -> None:
    """A user who could write to the cache earlier may have left a link in it. The link's target may be a
    valid file of a cache."""
    root = tmp_path / "cache"
    cache = open_cache(str(root), LIMIT)
    cache.put(b"key", b"value")
    found = next(root.glob(name)) if "*" in name else root / name
    cache.close()
    victim = tmp_path / "victim"
    victim.write_bytes(found.read_bytes() if found.exists() else b"precious")
    before = victim.read_bytes()
    found.unlink(missing_ok=True)
    found.symlink_to(victim)
    with suppress(CacheError), open_cache(str(root), LIMIT) as cache:
        assert cache.get(b"key") in (None, b"value")
        cache.put(b"other", b"value")
        cache.keep(b"ab", {b"other": 5})
    assert victim.read_bytes() == before


@pytest.mark.parametrize("limit", [0, 1, sizes.MIN_LIMIT - 1])
def test_a_limit_that_is_too_small(tmp_path: Path, limit: int) -> None:
    with pytest.raises(CacheError, match=f"limit {limit} is too small"):
        open_cache(str(tmp_path / "cache"), limit)
    assert not (tmp_path / "cache").exists()


def test_without_a_limit_there_must_be_a_cache(tmp_path: Path) -> None:
    with pytest.raises(UnusableDirectory, match="there is no cache"):
        open_cache(str(tmp_path / "cache"), None)
    open_cache(str(tmp_path / "cache"), LIMIT).close()
    with open_cache(str(tmp_path / "cache"), None) as cache:
        assert cache.stats().limit == LIMIT


def test_network_filesystems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test adds the filesystem type of tmp_path to the list of network filesystems."""
    buffer = ctypes.create_string_buffer(256)
    assert ctypes.CDLL(None).statfs(os.fsencode(tmp_path), buffer) == 0
    kind = int.from_bytes(buffer.raw[:4], "little")
    assert kind not in filesystem.NETWORK
    monkeypatch.setitem(filesystem.NETWORK, kind, "nfs")
    with pytest.raises(UnusableDirectory, match=r"network filesystem \(nfs\)"):
        open_cache(str(tmp_path / "cache"), LIMIT)


@pytest.mark.root
def test_fuse_counts_as_network(tmp_path: Path) -> None:
    source, mnt = tmp_path / "image", tmp_path / "mnt"
    (tmp_path / "tree").mkdir()
    mnt.mkdir()
    subprocess.run(
        ["mksquashfs", str(tmp_path / "tree"), str(source), "-quiet"], check=True, capture_output=True
    )
    subprocess.run(["squashfuse", str(source), str(mnt)], check=True)
    try:
        assert filesystem.network_type(str(mnt)) == "fuse"
    finally:
        subprocess.run(["umount", str(mnt)], check=True)


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    open_cache(str(tmp_path / "cache"), LIMIT).close()
    state = tmp_path / "cache" / layout.STATE
    state.write_bytes(state.read_bytes().replace(b'"format":4', b'"format":5'))
    with pytest.raises(UnusableDirectory, match="format 5, this version has 4"):
        open_cache(str(tmp_path / "cache"), LIMIT)


def test_a_format_long_before_is_refused_though_it_lacks_fields(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    open_cache(str(root), LIMIT).close()
    old = '{"format":1,"boot":"b","namespace":"n","generation":1,"limit":1,"map_size":1,"clean":true}'
    (root / "state.json").write_text(old)
    with pytest.raises(UnusableDirectory, match="format 1, this version has 4"):
        open_cache(str(root), LIMIT)


@pytest.mark.parametrize("before", layout.OTHER_INDEX)
def test_of_a_format_before_the_index_is_rebuilt_and_the_values_stay(tmp_path: Path, before: int) -> None:
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT) as cache:
        for number in range(100):
            assert cache.put(key_of(number), bytes(1000))
        assert cache.keep(b"image", {key_of(1): 1000}) == 1
    state = root / layout.STATE
    state.write_bytes(state.read_bytes().replace(b'"format":4', b'"format":%d' % before))
    (index,) = root.glob("index-*")
    (index / "data.mdb").write_bytes(b"tables of that format")
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        assert b'"format":4' in state.read_bytes()
        assert cache.stats().state == "rebuilding"
        cache.upkeep()
        assert (cache.stats().state, cache.stats().entries) == ("on", 100)
        cache.evict(LIMIT)
        assert [key for key, _ in cache.entries()] == [key_of(1)]
    assert not (root / layout.ASIDE).exists(), "it was not taken for damaged"


def test_values_written_before_1970_are_adopted(tmp_path: Path) -> None:
    """The clock of the node was not set when the values were written. They count as the oldest values, and
    the index stays."""
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        for number in range(3):
            assert cache.put(key_of(number), bytes(1000))
        assert cache.stats().entries == 3
        os.utime(root / layout.DATA / layout.name_of(key_of(1)), (-86400, -86400))
        lose_index(cache)
        cache.upkeep()
        assert sorted(key for key, _ in cache.entries()) == sorted(map(key_of, range(3)))
        cache.evict(1)
        assert cache.get(key_of(1)) is None
        assert cache.get(key_of(0)) is not None


def test_the_format_before_is_refused_while_another_process_has_it_open(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    open_cache(str(root), LIMIT).close()
    state = root / layout.STATE
    state.write_bytes(state.read_bytes().replace(b'"format":4', b'"format":2'))
    before = state.read_bytes()
    with (root / layout.PRESENCE).open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(UnusableDirectory, match="in use by an earlier version; close it everywhere"):
            open_cache(str(root), LIMIT)
    assert state.read_bytes() == before


def test_a_lower_limit_is_met_before_the_cache_is_used(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT) as cache:
        for number in range(200):
            cache.put(key_of(number), value_of(key_of(number)))
    with open_cache(str(root), LIMIT // 4, upkeep=False) as cache:
        assert disk_usage(root) <= cache.stats().charged <= LIMIT // 4
        assert cache.stats().entries > 0


def test_a_rebuild_is_not_over_before_the_last_directory_though_the_limit_is_reached(tmp_path: Path) -> None:
    """Even when the limit is reached, a rebuild goes on to the last directory, because files that it has not
    seen are not charged."""
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT) as cache:
        for number in range(150):
            assert cache.put(key_of(number), bytes(60_000))
    for index in root.glob("index-*"):
        subprocess.run(["rm", "-r", str(index)], check=True)
    with open_cache(str(root), LIMIT // 4, upkeep=False) as cache:
        shared = cache._shared
        for number in range(adopting.SCANNED - 1):
            with shared.transaction() as transaction:
                assert transaction is not None
                adopting.adopt(transaction, shared.files, number, shared.files.names(number))
        assert cache.stats().charged > LIMIT // 4
        assert cache.stats().state == "rebuilding"
        cache.upkeep()
        assert cache.stats().state == "on"
        assert disk_usage(root) <= cache.stats().charged <= LIMIT // 4


@pytest.mark.timeout(900)  # a million files are made
def test_orphans_do_not_delay_opening_and_count_as_full_until_they_are_gone(
    tmp_path: Path, measured: Measured
) -> None:
    """Orphans are files in data/ and tmp/ without an entry in the index, as after a lost index or a power
    cut. Until they are deleted, the cache counts as full."""
    root = tmp_path / "cache"
    # the names of a million files make a directory of 40 MB, which does not shrink again
    limit = count(LIMIT, 16 * LIMIT)
    with open_cache(str(root), limit) as cache:
        value = b"x" * 100
        for number in range(1000):
            assert cache.put(key_of(number), value)
    for index in root.glob("index-*"):
        subprocess.run(["rm", "-r", str(index)], check=True)
    many = count(5_000, 1_000_000)
    for number in range(many):
        (root / "tmp" / f"{number}-1").touch()
    (root / "data" / "00" / "no key").touch()
    (root / "data" / layout.name_of(key_of(7))).write_bytes(b"half a va")
    started = time.monotonic()
    with open_cache(str(root), limit, upkeep=False) as cache:
        opened = time.monotonic() - started
        stats = cache.stats()
        assert stats.state == "rebuilding"
        assert stats.charged > (limit - sizes.slack(limit)) * 0.98
        assert len(os.listdir(root / "tmp")) == many + 1, "nothing was cleaned before the cache was open"
        assert cache.get(key_of(8)) == value, "readers are served at once"
        assert not cache.put(b"new", bytes(1 << 20)), "nothing is known that could make room"
        cache.upkeep()
        stats = cache.stats()
        assert (stats.state, stats.entries) == ("on", 999)
        assert stats.charged * 0.98 <= disk_usage(root) <= stats.charged
        assert len(os.listdir(root / "tmp")) == 1
        assert cache.put(b"new", bytes(1 << 20))
        found = cache.verify()
        assert (found.values, found.damaged, found.orphans, found.missing) == (1000, 0, 0, 0)
    measured(f"opened in {opened:.3f} s with {many} orphans")


def test_pin_sets_and_the_limit_outlive_the_index(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT) as cache:
        cache.put(key_of(1), b"kept")
        assert cache.keep(b"image", {key_of(1): 4, key_of(2): 11}) == 1
        cache.resize(LIMIT // 2)
    for index in root.glob("index-*"):
        subprocess.run(["rm", "-r", str(index)], check=True)
    with open_cache(str(root), None, upkeep=False) as cache:
        cache.upkeep()
        assert cache.stats().limit == LIMIT // 2
        cache.put(key_of(2), b"kept as well")
        cache.evict(LIMIT)
        assert cache.get(key_of(1)) == b"kept"
        assert cache.get(key_of(2)) == b"kept as well"
        assert cache.drop(b"image") == 2
        cache.evict(LIMIT)
        assert cache.stats().entries == 0


def test_a_reboot_after_a_clean_close_keeps_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT) as cache:
        cache.put(b"key", b"value")
    before = (root / layout.STATE).read_bytes()
    assert b'"clean":true' in before
    monkeypatch.setattr(agreement, "boot_id", lambda: "another boot")
    with open_cache(str(root), LIMIT) as cache:
        assert cache.stats().state == "on"
        assert cache.stats().entries == 1
        assert b'"clean":false' in (root / layout.STATE).read_bytes()


def test_no_cache_answers_not_here() -> None:
    cache = NullCache("none configured")
    assert cache.get(b"key") is None
    assert cache.read(b"key", 0, 1) is None
    assert cache.size(b"key") is None
    assert cache.reserve(b"key", 1) is None
    assert not cache.put(b"key", b"value")
    assert not cache.pin(b"key", b"owner")
    with cache.claim(b"key"):
        assert cache.wait(b"key", 0)
    assert list(cache.entries()) == []
    assert cache.stats().state == "off: none configured"


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_an_index_damaged_in_any_page_is_rebuilt(tmp_path: Path, filler: bytes) -> None:
    """The cache opens and returns the right bytes. Either opening or a later use detects the damage."""
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        for number in range(300):
            assert cache.put(key_of(number), b"%d" % number)
    kept = tmp_path / "kept"
    shutil.copytree(root, kept)
    (file,) = kept.glob(f"{layout.INDEX}*/data.mdb")
    rebuilt = 0
    for page in range(2, file.stat().st_size // 4096):
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        with (root / file.relative_to(kept)).open("r+b") as damaged:
            damaged.seek(page * 4096)
            damaged.write(filler * 4096)
        for _ in range(2):
            # in a process of its own: LMDB may crash on such a page, and must not crash the test runner
            assert Child(functools.partial(use_and_rebuild, root)).join() == 0, page
        rebuilt += next(root.glob(f"{layout.INDEX}[0-9]*")).name != file.parent.name
    assert rebuilt > 1


def use_and_rebuild(root: Path, _: Callable[[], None]) -> None:
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        cache.put(b"new", b"value")  # this call may find the damage
        for _round in range(3):
            cache.upkeep()  # so may this one; the next one rebuilds
        assert cache.get(key_of(7)) in (b"7", None)
        assert cache.put(b"new", b"value")


def open_and_wait(root: Path, ready: Callable[[], None]) -> None:
    with open_cache(str(root), LIMIT, upkeep=False):
        ready()
        time.sleep(600)


def test_an_index_found_damaged_when_it_is_joined_is_rebuilt_with_all_that_lies_there(tmp_path: Path) -> None:
    """The index opens, but its totals cannot be read, so it is rebuilt. The journal that a killed process has
    left is charged too."""
    root = tmp_path / "cache"
    child = Child(functools.partial(open_and_wait, root))
    child.wait_until_ready()
    child.kill()
    index = Index(str(next(root.glob(f"{layout.INDEX}[0-9]*"))), 16 << 20)
    with index._env.begin(write=True) as txn:
        txn.put(rows.SUMS, b"\xc1", db=index.tables.main)
    index.close()
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        assert (root / layout.ASIDE).exists()
        assert disk_usage(root) <= cache.stats().charged
        cache.upkeep()
        assert cache.stats().state == "on"
        assert len(os.listdir(root / layout.TMP)) == 1, "only this process's journal"
        assert disk_usage(root) <= cache.stats().charged
