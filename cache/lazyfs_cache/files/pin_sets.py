"""Pin sets: named lists of keys that stay pinned after the process that asked is gone.

One file per set under pins/, so that they outlive the index; its name is the label in hexadecimal.
"""

import os
from collections.abc import Iterator, Sequence

import msgspec

from lazyfs_cache.files import layout
from lazyfs_cache.files import state_file as state

MAX_LABEL = 120
"""Bytes of the longest label: its hexadecimal form is a file name."""

_decode = msgspec.msgpack.Decoder(list[bytes]).decode


def save(root: str, label: bytes, keys: Sequence[bytes]) -> None:
    """Write one set; it is on the disk when this returns. Raises OSError."""
    path = os.path.join(root, layout.PINS, label.hex())
    with open(path + ".new", "wb") as file:
        file.write(msgspec.msgpack.encode(keys))
        file.flush()
        os.fsync(file.fileno())
    state.rename(path + ".new", path)


def remove(root: str, label: bytes) -> None:
    try:
        os.unlink(os.path.join(root, layout.PINS, label.hex()))
    except FileNotFoundError:
        pass


def labels(root: str) -> list[bytes]:
    """The sets there are."""
    return [
        bytes.fromhex(name) for name in sorted(os.listdir(os.path.join(root, layout.PINS))) if _whole(name)
    ]


def _whole(name: str) -> bool:
    try:
        return bool(bytes.fromhex(name))
    except ValueError:
        return False  # a set that was being written when its process died


def load(root: str, label: bytes) -> list[bytes]:
    """The keys of one set, none if it is not there or cannot be read."""
    try:
        with open(os.path.join(root, layout.PINS, label.hex()), "rb") as file:
            return _decode(file.read())
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def load_all(root: str) -> Iterator[tuple[bytes, list[bytes]]]:
    for label in labels(root):
        yield label, load(root, label)
