"""The catalogs that a timestamp announces: a hint with which a first mount fetches them along with snapshot
and targets, a round trip earlier than the targets can name them.

The field says nothing about which revision is trusted. Its objects are named by their digests, so whoever
signs a wrong one wastes bytes and nothing else.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from lazyfs.core import bounds
from lazyfs.core.digest import ObjectRef, parse_hex
from lazyfs.core.errors import FormatError
from lazyfs.core.params import Revision

FIELD: Final = "catalogs"
"""The field of the signed part of a timestamp; TUF clients pass over a field that they do not know."""
BYTES: Final = 1 << 20
"""The largest number of plaintext bytes of all catalogs of a timestamp."""

_Announced = Annotated[list[tuple[str, int]], msgspec.Meta(max_length=bounds.FIRST_CATALOGS + 1)]


def to_fields(revision: Revision) -> dict[str, Any]:
    """Returns the field for the timestamp of a revision: its root catalog and the first catalogs below it.
    Returns no field if they are too large together."""
    refs = (revision.root, *revision.first_catalogs)
    if sum(ref.size for ref in refs) > BYTES:
        return {}
    return {FIELD: [[ref.digest.hex(), ref.size] for ref in refs]}


def from_fields(fields: Mapping[str, Any]) -> tuple[ObjectRef, ...]:
    """Returns the catalogs that a timestamp announces. `fields`: the fields of its signed part that TUF does
    not define. Returns none if there are none, or if they are not as `to_fields` makes them."""
    try:
        announced = msgspec.convert(fields.get(FIELD, []), _Announced)
        refs = tuple(ObjectRef(parse_hex(digest), size) for digest, size in announced)
    except (msgspec.ValidationError, FormatError):
        return ()
    fits = all(ref.size > 0 for ref in refs) and sum(ref.size for ref in refs) <= BYTES
    return refs if fits else ()
