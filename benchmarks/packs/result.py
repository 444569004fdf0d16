"""The result file of the pack benchmark."""

import msgspec

from benchmarks.facts import Facts
from benchmarks.startup.images import BenchmarkImage
from lazyfs.core.params import Params


class Start(msgspec.Struct, frozen=True):
    """The counts of a real start."""

    params: Params
    requests: int
    waits: int
    bytes_from_origin: int
    disk_bytes: int
    cpu_seconds: float
    store_files: int
    store_bytes: int


class Replay(msgspec.Struct, frozen=True):
    """The counts of a replayed start, for small files and chunks of large files. Catalogs are not counted."""

    params: Params
    packs: int
    """The number of objects that hold the image's small files."""
    small_bytes: int
    """The stored size of these objects in bytes."""
    requests: int
    waits: int
    """Waits for fetches: one for each pack or small object that is read, and one for each large file, whose
    chunks are fetched together."""
    bytes: int
    cached: list[int]
    """Bytes fetched with a cache of each size in CACHES: 5, 10 and 25% of the image."""
    random_requests: int
    random_bytes: int
    """`random_requests` and `random_bytes` are the counts for 200 small files read at random."""


class Result(msgspec.Struct):
    """The result of one run."""

    benchmark: str
    command: str
    facts: Facts
    image: BenchmarkImage
    starts: list[Start]
    replays: list[Replay]
