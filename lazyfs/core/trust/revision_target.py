"""The one signed target: it names the root catalog, and its `custom` field holds the rest of a Revision."""

from typing import Any

import msgspec
from tuf.api.metadata import TargetFile, Targets

from lazyfs.core import bounds
from lazyfs.core.digest import ObjectRef, parse_hex
from lazyfs.core.digits import MOST
from lazyfs.core.errors import FormatError
from lazyfs.core.params import FEATURES, READABLE, Params, Revision, unsupported
from lazyfs.core.trust.errors import Malformed

TARGET = "catalog"
"""The target's path. Its hash and length are those of the plaintext; the bytes are the object of that name
under data/, which is a zstd frame."""

_SINCE_2 = frozenset(("pack_files", "pack_least", "pack_target", "pack_most"))
"""Parameters that a client of version 1 would take for an error."""
YEAR_9999 = 253_370_764_800
"""Seconds from 1970 to that year, the last of Python's calendar."""


class _Custom(msgspec.Struct, frozen=True):
    name: str
    revision: int
    time: int
    params: dict[str, Any]


def to_target(revision: Revision) -> TargetFile:
    """Returns the target that states `revision`."""
    params = msgspec.to_builtins(revision.params)
    if revision.params.version == 1:
        params = {field: value for field, value in params.items() if field not in _SINCE_2}
    custom = {
        "name": revision.name,
        "revision": revision.number,
        "time": revision.time,
        "params": params,
    }
    return TargetFile(
        revision.root.size,
        {"sha256": revision.root.digest.hex()},
        TARGET,
        unrecognized_fields={"custom": custom},
    )


def from_targets(targets: Targets) -> Revision:
    """Returns the revision that the signed target states. Raises Malformed, or UnsupportedFormat for a
    repository that needs a newer lazyfs."""
    target = targets.targets.get(TARGET)
    if target is None:
        raise Malformed(f"targets version {targets.version} has no target {TARGET!r}")
    try:
        custom = msgspec.convert(target.custom, _Custom)
        root = ObjectRef(parse_hex(target.hashes["sha256"]), target.length)
        if (
            not 0 < custom.revision < MOST
            or not 0 <= custom.time < YEAR_9999
            or not 0 < root.size <= bounds.OBJECT
        ):
            raise Malformed(f"targets version {targets.version}: an impossible revision, time or size")
        return Revision(custom.name, custom.revision, custom.time, root, _params(custom.params))
    except (KeyError, msgspec.ValidationError, FormatError) as error:
        raise Malformed(
            f"targets version {targets.version}: target {TARGET!r} is not a lazyfs revision: {error}"
        ) from None


def _params(fields: dict[str, Any]) -> Params:
    # Version and features are looked at first: a newer version may have fields that this one does not know.
    version = fields.get("version", 0)
    features = fields.get("features", ())
    if version not in READABLE or (
        isinstance(features, list) and not FEATURES.issuperset(map(str, features))
    ):
        raise unsupported(version, features)
    return msgspec.convert(fields, Params).check()
