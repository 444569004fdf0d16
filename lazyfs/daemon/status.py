"""The status of a mount, as its daemon sends it in JSON; shown by `status`, `top` and the metrics."""

import msgspec

from lazyfs.client.trust.revisions import TrustReport
from lazyfs.core.chain.report import ChainReport
from lazyfs_cache import Stats


class BundleCounts(msgspec.Struct, frozen=True):
    """The number of profiles' bundles that were prefetched, and of those that failed."""

    fetched: int
    failed: int


class RepositoryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one repository of a mount."""

    url: str
    revision: int
    published: int
    """When the revision shown was published; seconds since 1970."""
    root: str
    """Digest of its root catalog, in hexadecimal."""
    root_size: int
    looked: float
    """When a newer revision was last looked for; seconds since 1970."""
    warning: str
    """Why the newest revision could not be had, or not be shown; empty if it could."""
    namespace: str
    """Of its objects in the cache, if it takes a credential to read them; otherwise empty."""
    bundles: BundleCounts
    trust: TrustReport
    chain: ChainReport | None
    """None for a store directory."""


class CounterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of a session; see `lazyfs.fuse.counters`."""

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
    """Seconds that the first of them has waited."""


class MemoryStatus(msgspec.Struct, frozen=True):
    """The sizes of the tables that the daemon keeps in memory for the kernel."""

    slots: int
    catalogs: int
    catalog_bytes: int


class MountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one mount."""

    mountpoint: str
    source: str
    session: str
    """As `--fuse` calls it."""
    pid: int
    """The daemon's number for whoever asks; 0 where it has none there."""
    uptime: float
    """Seconds."""
    repositories: dict[str, RepositoryStatus]
    counters: CounterStatus
    waiting: dict[str, WaitStatus]
    """By repository; those that nobody waits for are not in it."""
    memory: MemoryStatus
    journal: str
    """Why the journal of inode numbers is no longer written; empty if it is."""
    cache: Stats
