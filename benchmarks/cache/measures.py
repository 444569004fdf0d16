"""The measured steps. Each runs in a process of its own, so that only the kernel's page cache is warm."""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import diskcache

from lazyfs_cache import open_cache
from lazyfs_cache.index.rows import SWEPT
from lazyfs_cache.policy.limits import Shortfall

VALUE = 1000
"""Size of a value in bytes: a small object, which takes one block of the disk."""

ROOM = 5000
"""The cache's size limit divided by its number of entries, in bytes. This is room for a block of the disk,
and for a share of the index and the directories."""


EVICTION = (
    "evict_microseconds",
    "evict_cpu_microseconds",
    "evict_unlink_cpu_microseconds",
    "evict_index_cpu_microseconds",
    "evict_index_pages",
)


def key_of(number: int) -> bytes:
    """Returns 32 bytes that look like a digest, but are cheaper to compute."""
    return (number * 0x9E3779B97F4A7C15 & (1 << 64) - 1).to_bytes(8, "big") * 4


def value_of(number: int) -> bytes:
    return number.to_bytes(8, "big") * (VALUE // 8)


class Tested(Protocol):
    """The interface that both compared caches offer."""

    def get(self, number: int) -> bytes | None: ...

    def put(self, number: int) -> None: ...

    def entries(self) -> int: ...

    def fit(self) -> None:
        """Lowers the limit to the present size, so that every new entry evicts another one."""
        ...

    def close(self) -> None: ...


class Ours:
    def __init__(self, root: Path, entries: int) -> None:
        place = root / "ours"
        self.cache = open_cache(str(place), None if place.exists() else max(entries * ROOM, 8 << 20))

    def get(self, number: int) -> bytes | None:
        return self.cache.get(key_of(number))

    def put(self, number: int) -> None:
        assert self.cache.put(key_of(number), value_of(number))

    def entries(self) -> int:
        return self.cache.stats().entries

    def fit(self) -> None:
        self.cache.upkeep()
        self.cache.resize(self.cache.stats().charged * 128 // 127 + (256 << 10))

    def close(self) -> None:
        self.cache.close()


class Peer:
    """diskcache with its own defaults, except for policy and size. It stores values of this size in its
    SQLite file."""

    def __init__(self, root: Path, entries: int) -> None:
        self.cache: Any = diskcache.Cache(
            str(root / "diskcache"),
            **({} if (root / "diskcache").exists() else {"size_limit": max(entries * ROOM, 8 << 20)}),
            eviction_policy="least-recently-used",
        )

    def get(self, number: int) -> bytes | None:
        found: bytes | None = self.cache.get(key_of(number))
        return found

    def put(self, number: int) -> None:
        assert self.cache.set(key_of(number), value_of(number))

    def entries(self) -> int:
        return len(self.cache)

    def fit(self) -> None:
        self.cache.reset("size_limit", self.cache.volume())

    def close(self) -> None:
        self.cache.close()


CACHES: dict[str, Callable[[Path, int], Tested]] = {"lazyfs_cache": Ours, "diskcache": Peer}


def rates(name: str, action: Callable[[int], object], numbers: list[int]) -> Iterator[tuple[str, float]]:
    """Yields (name, calls per second), and the same rate by processor time (user and system, all threads),
    which varies less on a shared machine."""
    start, cpu = time.perf_counter(), time.process_time()
    for number in numbers:
        action(number)
    yield f"{name}_per_second", len(numbers) / (time.perf_counter() - start)
    yield f"{name}_per_cpu_second", len(numbers) / (time.process_time() - cpu)


def fill(tested: Tested, first: int, entries: int) -> Iterator[tuple[str, float]]:
    yield from rates("fill", tested.put, list(range(first, first + entries)))
    yield "entries", tested.entries()


def hits(tested: Tested, entries: int, count: int) -> Iterator[tuple[str, float]]:
    """Measures hits spread evenly over all entries. Then measures hits on 10,000 entries, like those of a job
    that reads its files again and again."""
    source = random.Random(1)
    everywhere = [source.randrange(entries) for _ in range(count)]
    before = anonymous_memory()
    yield from rates("hits_uniform", lambda number: _hit(tested, number), everywhere)
    hot = [source.randrange(10_000) for _ in range(10_000)]
    for number in hot:
        _hit(tested, number)
    again = [source.choice(hot) for _ in range(count)]
    yield from rates("hits_hot", lambda number: _hit(tested, number), again)
    yield "anonymous_memory", anonymous_memory()
    yield "anonymous_memory_grown", anonymous_memory() - before
    yield "file_memory", _status("RssFile")


def _hit(tested: Tested, number: int) -> None:
    value = tested.get(number)
    assert value is not None
    assert value[:8] == value[-8:] == number.to_bytes(8, "big")


def insert(tested: Tested, first: int, count: int) -> Iterator[tuple[str, float]]:
    """Measures inserts into a full cache: each new entry evicts another one."""
    before = tested.entries()
    yield from rates("inserts_with_eviction", tested.put, list(range(first, first + count)))
    yield "evicted", before + count - tested.entries()


def evict(tested: Ours, count: int) -> Iterator[tuple[str, float]]:
    """Measures one eviction in time and in processor time. Divides the processor time between the
    filesystem's unlink and the index, and counts the pages of 4 KiB that the index writes.

    Two conditions are set up first. All data is on the disk, because ext4 deletes a file without allocated
    blocks at a quarter of the cost. And so many values were evicted that the sweep, which deletes old ghosts
    (rows of evicted values) from the index, has passed over every row once.
    """
    os.sync()
    room, files = tested.cache._room, tested.cache._files
    first_round = tested.entries() // SWEPT
    while first_round > 0:
        first_round -= room.evict(Shortfall(0, 64))
    unlinking = 0.0
    remove = files.remove

    def timed(key: bytes) -> None:
        nonlocal unlinking
        start = time.thread_time()
        remove(key)
        unlinking += time.thread_time() - start

    files.remove = timed  # type: ignore[method-assign]
    gone = 0
    before = _proc("io", "wchar")
    start, cpu = time.perf_counter(), time.thread_time()
    while gone < count:
        gone += room.evict(Shortfall(0, 64))
    total, cpu = time.perf_counter() - start, time.thread_time() - cpu
    pages = (_proc("io", "wchar") - before) / 4096
    for name, seconds in zip(EVICTION[:-1], (total, cpu, unlinking, cpu - unlinking), strict=True):
        yield name, seconds / gone * 1e6
    yield EVICTION[-1], pages / gone


def filesystem(root: Path, count: int) -> dict[str, float]:
    """Measures only the filesystem operations of an insert with eviction, on 5,000 files: create, write,
    rename, and unlink another file. No cache that stores files can be faster."""
    root.mkdir()
    value = value_of(1)

    def turn(number: int) -> None:
        temporary = root / "new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, value)
        os.close(fd)
        os.rename(temporary, root / str(number))
        if number >= 5000:
            os.unlink(root / str(number - 5000))

    for number in range(5000):
        turn(number)
    return dict(rates("turns", turn, list(range(5000, 5000 + count))))


def filesystem_kind(directory: Path) -> str:
    """Returns the type of the filesystem that holds `directory`. For ext4, also says whether it has a
    journal. Without a journal, ext4 must skip all inodes deleted within the last minute when it looks for a
    free one (recently_deleted), and inserts are slow."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    place = str(directory.resolve()) + "/"
    device, _, kind = max(
        (mount[:3] for mount in mounts if place.startswith(mount[1].rstrip("/") + "/")),
        key=lambda mount: len(mount[1]),
    )
    options = Path("/proc/fs/ext4") / Path(device).name / "options"
    if kind == "ext4" and options.exists():
        journal = any(line.startswith("data=") for line in options.read_text().splitlines())
        kind += " with a journal" if journal else " without a journal"
    return kind


def anonymous_memory() -> int:
    """Returns the anonymous memory of this process in bytes (RssAnon), the interpreter's included. Mapped
    files such as the index are not counted."""
    return _status("RssAnon")


def _status(field: str) -> int:
    return _proc("status", field) * 1024


def _proc(file: str, field: str) -> int:
    for line in Path("/proc/self", file).read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise LookupError(f"/proc/self/{file} has no {field}")


def measure(kind: str, root: Path, step: str, entries: int, count: int) -> dict[str, float]:
    """Opens one cache and runs one step on it. Returns the figures by name."""
    start = time.perf_counter()
    tested = CACHES[kind](root, entries)
    found = {"open_seconds": time.perf_counter() - start}
    match step:
        case "fill":
            found |= dict(fill(tested, 0, entries))
        case "hits":
            found |= dict(hits(tested, entries, count))
        case "insert":
            found |= dict(insert(tested, entries * 2, count))
        case "evict":
            assert isinstance(tested, Ours)
            found |= dict(evict(tested, count))
        case "fit":
            tested.fit()
        case "open":
            assert tested.get(0) is not None or tested.entries()
        case _:
            raise ValueError(step)
    start = time.perf_counter()
    tested.close()
    found["close_seconds"] = time.perf_counter() - start
    return found
