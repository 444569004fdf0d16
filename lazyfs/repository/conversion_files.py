"""The names under metadata/ at which the shards of a plan leave what they have converted, until it is
committed. They hold the plan's lease in their name: a collection deletes those of leases that are over."""

import re

PREFIX = "conversion-"
_NAME = re.compile(rf"{PREFIX}([0-9a-f]{{32}})-(\d{{1,6}})\.(image|layers|failed)\.json")


def conversion_file(token: str, number: int, kind: str) -> str:
    """Returns the name for an image of the plan with this lease. `kind`: image, layers or failed."""
    return f"{PREFIX}{token}-{number}.{kind}.json"


def lease_of(name: str) -> str | None:
    """Returns the lease of a file of this kind, None for another file."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None
