"""Names of the files under metadata/ in which the shards of a plan leave their converted images until the
plan is committed. Each name holds the token of the plan's lease: once the lease is over, a collection deletes
the files."""

import re

PREFIX = "conversion-"
_NAME = re.compile(rf"{PREFIX}([0-9a-f]{{32}})-(\d{{1,6}})\.(image|layers|failed)\.json")


def conversion_file(token: str, number: int, kind: str) -> str:
    """Returns the name of one file of a shard. `token`: that of the lease of the plan. `number`: the image's
    number in the plan. `kind` says what the file holds: `image` for the converted image; `layers` for the
    layers that were read for a deferred image, which also needs layers that another shard has still to read;
    `failed` for the reason why the conversion failed."""
    return f"{PREFIX}{token}-{number}.{kind}.json"


def lease_of(name: str) -> str | None:
    """Returns the token of the lease in the name of such a file; None for any other name."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None
