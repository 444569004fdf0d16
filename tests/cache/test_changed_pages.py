"""Corrupted pages in an index cost at most the index: the process continues, and the limit holds."""

import random
from contextlib import suppress
from pathlib import Path

import lmdb
import msgspec
import pytest

from lazyfs_cache import CacheError, open_cache
from lazyfs_cache.files import layout
from lazyfs_cache.index.rows import SUMS, Sums, Tenant, encode_sums, read_sums
from lazyfs_cache.policy.shares import MOST
from tests.support.cachefill import key_of
from tests.support.usage import disk_usage

LIMIT = 16 << 20
VALUES = 200


def _value(number: int) -> bytes:
    return b"%04d" % number * 700


def _filled(directory: Path) -> Path:
    """Fills a cache and closes it; returns the path of its index file."""
    with open_cache(str(directory), LIMIT) as cache:
        for number in range(VALUES):
            cache.put(key_of(number), _value(number))
    (index,) = directory.glob(layout.INDEX + "*/data.mdb")
    return index


def _use(directory: Path) -> None:
    """Reads, adds, evicts, lists and pins. Asserts that every value read is right or a miss."""
    with open_cache(str(directory), LIMIT, upkeep=False) as cache:
        for number in range(VALUES + 50):
            found = cache.get(key_of(number))
            assert found in (None, _value(number))
            if found is None:
                cache.put(key_of(number), _value(number))
        cache.upkeep()
        with suppress(CacheError):  # the pins may find no room, or the cache may be off
            cache.keep(b"set", {key_of(1): len(_value(1))})
            cache.drop(b"set")
        cache.evict(1 << 16)
        assert len(list(cache.entries())) <= VALUES + 50
        cache.stats()
    assert disk_usage(directory) <= LIMIT


@pytest.mark.parametrize("seed", range(8))
def test_any_bytes_of_the_index_may_be_changed(tmp_path: Path, seed: int) -> None:
    index = _filled(tmp_path / "cache")
    choose = random.Random(seed)
    with index.open("r+b") as file:
        size = index.stat().st_size
        for _ in range((1, 5, 50, 500)[seed % 4]):
            file.seek(choose.randrange(size))
            file.write(bytes([choose.randrange(256)]))
    _use(tmp_path / "cache")


@pytest.mark.parametrize("table", ["entries", "queue", "pins", "kept", "owners", "folders", "main"])
@pytest.mark.parametrize("row", [b"", b"\xff" * 9, b"\xff" * 64], ids=len)
def test_any_row_may_be_another(tmp_path: Path, table: str, row: bytes) -> None:
    """Every row of a table of the index is replaced by this row. The table also gets this row under keys that
    the cache never writes."""
    index = _filled(tmp_path / "cache")
    with lmdb.open(str(index.parent), max_dbs=8, lock=False) as environment:
        database = environment.open_db(table.encode())
        with environment.begin(write=True, db=database) as txn:
            keys = [bytes(key) for key in txn.cursor().iternext(keys=True, values=False)]
            for key in [*keys, b"\xff", b"\x1f" + b"\xff" * 7, b"\xff" * 8, b"\xff" * 20]:
                txn.put(key, row)
    _use(tmp_path / "cache")


@pytest.mark.parametrize("value", [-1, 1 << 62, (1 << 64) - 1])
@pytest.mark.parametrize("field", ["limit", "stored", "unscanned", "scan", "tick", "last_owner", "pinned"])
def test_sums_that_would_overflow_are_no_sums(tmp_path: Path, field: str, value: int) -> None:
    index = _filled(tmp_path / "cache")
    sums = Sums()
    setattr(sums, field, value)
    _refused(index, sums)


@pytest.mark.parametrize("value", [-1, 1 << 62])
@pytest.mark.parametrize("field", ["entries", "stored", "used", "hand", "floor"])
def test_tenants_that_would_overflow_are_no_sums(tmp_path: Path, field: str, value: int) -> None:
    sums = Sums()
    setattr(sums.tenants[0], field, value)
    _refused(_filled(tmp_path / "cache"), sums)


@pytest.mark.parametrize("number", [0, MOST + 1])
def test_sums_of_no_tenants_and_of_too_many_are_no_sums(tmp_path: Path, number: int) -> None:
    _refused(_filled(tmp_path / "cache"), Sums(tenants=[Tenant()] * number))


def _refused(index: Path, sums: Sums) -> None:
    with pytest.raises(msgspec.ValidationError):
        read_sums(encode_sums(sums))
    with lmdb.open(str(index.parent), max_dbs=8, lock=False) as environment:
        database = environment.open_db(b"main")
        with environment.begin(write=True, db=database) as txn:
            txn.put(SUMS, encode_sums(sums))
    _use(index.parent.parent)
