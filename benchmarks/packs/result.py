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
    """The counts of a replayed start. Counted are small files and the chunks of large ones, but no
    catalogs."""

    params: Params
    packs: int
    """Objects that hold the image's small files."""
    small_bytes: int
    """Stored bytes of the objects that hold the image's small files."""
    requests: int
    waits: int
    """One for each pack or small object touched, and one for each large file, whose chunks are fetched
    together."""
    bytes: int
    cached: list[int]
    """Bytes fetched with a cache of 5, 10 and 25% of the image."""
    random_requests: int
    random_bytes: int
    """Counts for 200 small files read at random."""


class Result(msgspec.Struct):
    """The result of one run."""

    benchmark: str
    command: str
    facts: Facts
    image: BenchmarkImage
    starts: list[Start]
    replays: list[Replay]
