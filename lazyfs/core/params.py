"""A repository's format parameters: set at `repo init`, signed, stronger than a publisher's defaults."""

import msgspec

from lazyfs.core.chunks import MAX_SHIFT, MIN_SHIFT
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import FormatError, UnsupportedFormat

VERSION = 1
FLAT = b".flat"
"""The folder of images' trees, `.flat/xx/<config digest>`, which the links of tags lead into."""
FEATURES: frozenset[str] = frozenset()
"""The required features that this version understands."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choices that all publishers of a repository share, so that equal input gives equal objects."""

    version: int = VERSION
    features: tuple[str, ...] = ()
    chunk_shift: int = 20
    """Files larger than 2**chunk_shift bytes are cut into chunks of that size. 1 MiB by measurement
    (benchmarks/chunks): smaller chunks cost many requests, larger ones hardly save any."""
    catalog_entries: int = 2048
    """A directory whose subtree holds at least this many entries becomes a catalog of its own; a nested
    catalog counts as one entry of its parent. 2048 by measurement (benchmarks/chunks): it fetches less than
    8192 in as many requests; smaller ones add requests."""
    keep_days: int = 30
    """Days that a replaced revision stays readable."""

    def check(self) -> "Params":
        """Returns the parameters unchanged. Raises UnsupportedFormat for those of a newer version,
        FormatError for values outside their bounds."""
        unknown = sorted(set(self.features) - FEATURES)
        if self.version != VERSION or unknown:
            raise UnsupportedFormat(
                f"repository needs format version {self.version}, features {unknown}; this lazyfs reads "
                f"version {VERSION}: upgrade lazyfs on this machine"
            )
        if not MIN_SHIFT <= self.chunk_shift <= MAX_SHIFT:
            raise FormatError(f"chunk_shift {self.chunk_shift} is outside {MIN_SHIFT} to {MAX_SHIFT}")
        if self.catalog_entries < 16:
            raise FormatError(f"catalog_entries {self.catalog_entries} is under 16")
        return self


class Revision(msgspec.Struct, frozen=True):
    """One published state of a repository, as it is signed."""

    name: str
    """The repository's name, e.g. `unpacked.example.org`."""
    number: int
    time: int
    """Moment of its publishing: seconds since 1970, UTC."""
    root: ObjectRef
    """The root catalog."""
    params: Params
    history: ObjectRef | None = None
    """The head of the repository's history; None in repositories from before there was one."""
