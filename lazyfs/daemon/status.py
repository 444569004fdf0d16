"""The status of a mount, as its daemon sends it in JSON; shown by `status`, `top` and the metrics."""

import msgspec

from lazyfs.client.trust.report import TrustReport
from lazyfs.core.chain.report import ChainReport
from lazyfs_cache import Stats


class ProfileCounts(msgspec.Struct, frozen=True):
    """The effects of profiles: the objects that were fetched for them, the objects that could not be fetched,
    and the profiles that were given up because nobody used the fetched objects."""

    fetched: int
    failed: int
    given_up: int


class GuessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The objects fetched on a guess. Bytes are plaintext."""

    guessed: int
    guessed_bytes: int
    used: int
    """The number of guessed objects that were read later."""
    used_bytes: int
    wasted: int
    """The number of guessed objects that have not been read so far."""
    wasted_bytes: int
    dropped: int
    """The number of guesses that were not fetched: over the budget, or without room in the cache."""


class RepositoryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one repository of a mount."""

    url: str
    revision: int
    published: int
    """The time at which the shown revision was published; seconds since 1970."""
    root: str
    """The digest of the shown revision's root catalog, in hexadecimal."""
    root_size: int
    looked: float
    """The time of the last search for a newer revision; seconds since 1970."""
    warning: str
    """The reason why the newest revision could not be fetched or shown; empty if it could."""
    namespace: str
    """The namespace of the repository's objects in the cache; empty if reading them takes no credential."""
    profiles: ProfileCounts
    guesses: GuessStatus
    collected: int = 0
    """The number of images for which workers' reports have made profiles."""
    trust: TrustReport
    chain: ChainReport | None
    """The proxies and origins; None for a store directory."""


class CounterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of a session, with the meanings that `lazyfs.fuse.counters` gives them."""

    upcalls: dict[str, int]
    faults: dict[str, int]
    misses: int
    fetched_bytes: int
    read_bytes: int
    interrupted: int
    malformed: int
    notified: int
    wait_seconds: float
    waits: list[int]


class WaitStatus(msgspec.Struct, frozen=True):
    """The objects of one repository that calls wait for now."""

    calls: int
    objects: int
    longest: float
    """Seconds that the call which waits longest has waited."""


class MemoryStatus(msgspec.Struct, frozen=True):
    """The sizes of the tables that the daemon keeps in memory for the kernel."""

    slots: int
    catalogs: int
    catalog_bytes: int
    limit: int = 0
    """The largest number of bytes that the daemon may take: its setting, or its control group's limit."""
    given_back: int = 0
    """The number of times that kept answers and catalogs were dropped because memory was short."""


class MountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one mount."""

    mountpoint: str
    source: str
    session: str
    """The kind of session, by its name in `--fuse`."""
    pid: int
    """The daemon's id in the caller's PID namespace; 0 if it has none there."""
    uptime: float
    """Seconds since the mount was made, or was taken over."""
    successions: int
    """The number of times that another daemon has taken the mount over."""
    repositories: dict[str, RepositoryStatus]
    counters: CounterStatus
    waiting: dict[str, WaitStatus]
    """The waits by repository. Repositories without waiting calls are left out."""
    memory: MemoryStatus
    journal: str
    """The reason why the journal's file lacks inode numbers; empty if it has them all."""
    cache: Stats
