"""A repository's format parameters. They are set at `repo init` and signed; a publisher's own defaults do not
change them."""

import msgspec

from lazyfs.core import bounds
from lazyfs.core.chunks import MAX_SHIFT, MIN_SHIFT
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import FormatError, UnsupportedFormat

VERSION = 2
READABLE = (1, 2)
"""Versions that clients read. Publishers write the newest one only; `lazyfs repo upgrade` brings an older
repository to it."""
FLAT = b".flat"
"""The folder of images' trees, `.flat/xx/<config digest>`, which the links of tags lead into."""
FEATURES: frozenset[str] = frozenset()
"""The names of the features that this version of lazyfs has, of all that a repository may require."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choices that all publishers of a repository share, so that equal input gives equal objects."""

    version: int = VERSION
    features: tuple[str, ...] = ()
    chunk_shift: int = 20
    """Files larger than 2**chunk_shift bytes are cut into chunks of that size. 1 MiB by measurement
    (benchmarks/chunks): smaller chunks cost many requests. Larger ones save a start a fifth of its requests
    beside packs and none of its waits, and make caches that are small beside the image fetch a tenth more."""
    catalog_entries: int = 2048
    """A directory whose subtree holds at least this many entries becomes a catalog of its own; a nested
    catalog counts as one entry of its parent. By measurement (benchmarks/chunks), 2048 fetches fewer bytes
    than 8192 in as many requests; smaller limits add requests."""
    pack_files: int = 1 << 20
    """Files of at most this many bytes are packed, unless they have several chunks; 0: no file is packed.
    This default and those of the pack sizes below were measured (benchmarks/packs): at 1 MiB, which is the
    default chunk size, no file of one chunk needs a request of its own."""
    pack_least: int = 512 << 10
    """The smallest size of a pack, in plaintext bytes; the last pack of a layer may have fewer."""
    pack_target: int = 1 << 20
    """The approximate mean size of a pack, in plaintext bytes."""
    pack_most: int = 1280 << 10
    """The largest size of a pack, in plaintext bytes. A client that wants one file of a pack keeps all of it:
    what small caches fetch in vain follows the largest packs."""
    keep_days: int = 30
    """Days that a replaced revision stays readable."""

    def check(self) -> "Params":
        """Returns the parameters unchanged. Raises UnsupportedFormat for those of a newer version,
        FormatError for values outside their bounds."""
        unknown = sorted(set(self.features) - FEATURES)
        if self.version not in READABLE or unknown:
            raise unsupported(self.version, unknown)
        if not MIN_SHIFT <= self.chunk_shift <= MAX_SHIFT:
            raise FormatError(f"chunk_shift {self.chunk_shift} is outside {MIN_SHIFT} to {MAX_SHIFT}")
        if self.catalog_entries < 16:
            raise FormatError(f"catalog_entries {self.catalog_entries} is under 16")
        if not 0 < self.pack_least <= self.pack_target <= self.pack_most <= bounds.PACK:
            raise FormatError(
                f"pack_least {self.pack_least}, pack_target {self.pack_target} and pack_most "
                f"{self.pack_most} do not rise from 1 to {bounds.PACK}"
            )
        if not 0 <= self.pack_files <= self.pack_most:
            raise FormatError(f"pack_files {self.pack_files} is outside 0 to pack_most, {self.pack_most}")
        return self

    @property
    def is_older(self) -> bool:
        """True for a repository that publishers must upgrade first."""
        return self.version != VERSION


def unsupported(version: object, features: object) -> UnsupportedFormat:
    """Returns the error for a repository of a newer version."""
    return UnsupportedFormat(
        f"repository needs format version {version}, features {features}; this lazyfs reads versions "
        f"{READABLE[0]} to {READABLE[-1]}: upgrade lazyfs on this machine"
    )


class Revision(msgspec.Struct, frozen=True):
    """One published state of a repository, as it is signed."""

    name: str
    """The repository's name, e.g. `unpacked.example.org`."""
    number: int
    time: int
    """The time at which the revision was published: seconds since 1970, UTC."""
    root: ObjectRef
    """The root catalog."""
    params: Params
    history: ObjectRef | None = None
    """The head of the repository's history; None for a repository that was made before histories existed."""
    first_catalogs: tuple[ObjectRef, ...] = ()
    """Catalogs of folders below the root, which a client may fetch along with the root catalog: otherwise it
    waits for them one after the other, since each names the next. A hint."""
