"""TUF's four roles (root, targets, snapshot, timestamp), the names of the files they sign, and the largest
sizes of these files."""

from typing import Final

ROOT: Final = "root"
TIMESTAMP: Final = "timestamp"
SNAPSHOT: Final = "snapshot"
TARGETS: Final = "targets"
PROFILES: Final = "profiles"
"""A role that the publisher may delegate: it signs collected profiles, and nothing else."""
PROFILES_FILE: Final = "profiles.json"
CHANGING_FILES: Final = ("timestamp.json", PROFILES_FILE)
"""The files of metadata/ whose content changes under one name. All others are kept by caches for ever."""

MAX_ROOT = 512_000
MAX_TIMESTAMP = 16_384
"""The largest number of bytes of a timestamp. No signed file states the sizes of timestamps and roots, so
python-tuf's limits are used for both."""

MAX_SNAPSHOT = 65_536
MAX_TARGETS = 65_536
"""The largest number of bytes of the targets file, if its signed length is missing or not known yet;
the snapshot file has the same limit. With one target both files have about 600."""

TIMESTAMP_KEPT = 30
"""Seconds for which a cache may keep the timestamp, as lazyfs's own server and the examples of its
documentation set it. A cache hides a new revision for this time at most."""

MAX_ROOTS = 256
MAX_NEW_ROOTS = 1 << 20
"""The largest number of bytes of new roots that one refresh follows (specification 5.3.3); the next refresh
goes on from there. A root of three keys has 2 KB."""

MAX_CHAIN = 4 << 20
"""The largest number of bytes of all roots that a client keeps, from the one that the operator gave to the
newest: room for 2,000 changes of keys."""


def file_name(role: str, version: int) -> str:
    """Returns the name of a role's file under metadata/. Only the timestamp's name has no version in it."""
    return "timestamp.json" if role == TIMESTAMP else f"{version}.{role}.json"
