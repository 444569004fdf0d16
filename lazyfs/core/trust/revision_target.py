"""The one signed target: it names the root catalog, and its `custom` field holds the rest of a Revision."""

from typing import Any

import msgspec
from tuf.api.metadata import TargetFile, Targets

from lazyfs.core.params import Revision
from lazyfs.core.trust.errors import Malformed
from lazyfs.core.trust.revision_fields import SINCE_2, TARGET, revision_of


def to_target(revision: Revision) -> TargetFile:
    """Returns the target that states `revision`."""
    params = msgspec.to_builtins(revision.params)
    if revision.params.version == 1:
        params = {field: value for field, value in params.items() if field not in SINCE_2}
    custom: dict[str, Any] = {
        "name": revision.name,
        "revision": revision.number,
        "time": revision.time,
        "params": params,
    }
    if revision.history:
        custom["history"] = [revision.history.digest.hex(), revision.history.size]
    if revision.first_catalogs:
        custom["first_catalogs"] = [[ref.digest.hex(), ref.size] for ref in revision.first_catalogs]
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
    return revision_of(targets.version, target.custom, target.hashes, target.length)
