"""The fields of the one signed target: it names the root catalog, and its `custom` field holds the rest of a
Revision. Costs no import of python-tuf."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from lazyfs.core import bounds
from lazyfs.core.digest import ObjectRef, parse_hex
from lazyfs.core.digits import MOST
from lazyfs.core.errors import FormatError
from lazyfs.core.params import FEATURES, READABLE, Params, Revision, unsupported
from lazyfs.core.struct_types import analyse
from lazyfs.core.trust.errors import Malformed

TARGET = "catalog"
"""The target's path. Its hash and length are those of the root catalog's plaintext; the catalog's frame lies
under data/."""


SINCE_2 = frozenset(("pack_files", "pack_least", "pack_target", "pack_most"))
"""Parameters that a client of version 1 would refuse."""
YEAR_9999 = 253_370_764_800
"""Seconds from 1970 to the beginning of the year 9999, the last of Python's calendar."""


class _Custom(msgspec.Struct, frozen=True):
    name: str
    revision: int
    time: int
    params: dict[str, Any]
    history: tuple[str, int] | None = None
    """Digest and size of the history's head."""
    first_catalogs: Annotated[list[tuple[str, int]], msgspec.Meta(max_length=bounds.FIRST_CATALOGS)] = []
    """Digest and size of each."""


analyse(_Custom, Params)  # the repositories of a mount are read side by side


def revision_of(targets_version: int, custom: Any, hashes: Mapping[str, str], length: int) -> Revision:
    """Returns the revision that a target states. `custom`, `hashes`, `length`: the fields of the target.
    `targets_version`: the version of the targets file, for errors. Raises Malformed, or UnsupportedFormat for
    a repository that needs a newer lazyfs."""
    try:
        fields = msgspec.convert(custom, _Custom)
        root = ObjectRef(parse_hex(hashes["sha256"]), length)
        history = _ref(*fields.history) if fields.history else None
        first_catalogs = tuple(_ref(*one) for one in fields.first_catalogs)
        if (
            not 0 < fields.revision < MOST
            or not 0 <= fields.time < YEAR_9999
            or not 0 < root.size <= bounds.OBJECT
            or (history and not 0 < history.size <= bounds.OBJECT)
            or not all(0 < ref.size <= bounds.OBJECT for ref in first_catalogs)
        ):
            raise Malformed(f"targets version {targets_version}: an impossible revision, time or size")
        params = _params(fields.params)
        return Revision(fields.name, fields.revision, fields.time, root, params, history, first_catalogs)
    except (KeyError, msgspec.ValidationError, FormatError) as error:
        raise Malformed(
            f"targets version {targets_version}: target {TARGET!r} is not a lazyfs revision: {error}"
        ) from None


def _ref(digest: str, size: int) -> ObjectRef:
    return ObjectRef(parse_hex(digest), size)


def _params(fields: dict[str, Any]) -> Params:
    # Version and features are looked at first: a newer version may have fields that this one does not know.
    version = fields.get("version", 0)
    features = fields.get("features", ())
    if version not in READABLE or (
        isinstance(features, list) and not FEATURES.issuperset(map(str, features))
    ):
        raise unsupported(version, features)
    return msgspec.convert(fields, Params).check()
