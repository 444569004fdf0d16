"""The four roles, the files they sign, and how large those may be."""

from typing import Final

ROOT: Final = "root"
TIMESTAMP: Final = "timestamp"
SNAPSHOT: Final = "snapshot"
TARGETS: Final = "targets"

MAX_ROOT = 512_000
MAX_TIMESTAMP = 16_384
"""Bytes. Nothing signed states the size of these two files beforehand, so these limits do (python-tuf's)."""

MAX_SNAPSHOT = 65_536
MAX_TARGETS = 65_536
"""Bytes, for a publisher that signed no length, and for guesses made before the signed length is known: with
one target both files have about 600 bytes."""

MAX_ROOTS = 256
MAX_NEW_ROOTS = 1 << 20
"""How many new roots, and how many bytes of them, one look follows (specification 5.3.3); the next look goes
on from there. A root of three keys has 2 KB."""

MAX_CHAIN = 4 << 20
"""Bytes of all roots from the one that was given to the newest, which a client keeps: 2,000 changes of
keys."""


def file_name(role: str, version: int) -> str:
    """The file of one version of a role under metadata/. Only the timestamp changes under its name."""
    return "timestamp.json" if role == TIMESTAMP else f"{version}.{role}.json"
