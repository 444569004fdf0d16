"""Files of pin sets: named lists of keys that stay pinned after the process that pinned them has ended.

One file per set under pins/, named by its label in hexadecimal. They outlive the index.
"""

import os
from collections.abc import Iterator, Sequence

import msgspec

from lazyfs_cache.files import layout, state_file

MAX_LABEL = 120
"""Bytes of the longest label: its hexadecimal form is a file name."""

_decode = msgspec.msgpack.Decoder(list[bytes]).decode


def save(root: str, label: bytes, keys: Sequence[bytes]) -> None:
    """Writes one set; it is on the disk when this returns. Raises OSError."""
    path = os.path.join(root, layout.PINS, label.hex())
    with open(path + ".new", "wb", opener=state_file.no_link) as file:
        file.write(msgspec.msgpack.encode(keys))
        file.flush()
        os.fsync(file.fileno())
    state_file.rename(path + ".new", path)


def remove(root: str, label: bytes) -> None:
    """Deletes one set; does nothing if there is none of that label. Raises OSError."""
    try:
        os.unlink(os.path.join(root, layout.PINS, label.hex()))
    except FileNotFoundError:
        pass


def labels(root: str) -> list[bytes]:
    """Returns the labels of all sets, in the order of their names."""
    return [
        bytes.fromhex(name) for name in sorted(os.listdir(os.path.join(root, layout.PINS))) if _is_label(name)
    ]


def _is_label(name: str) -> bool:
    try:
        return bool(bytes.fromhex(name))
    except ValueError:
        return False  # NAME.new: its process died while writing it


def load(root: str, label: bytes) -> list[bytes]:
    """Returns the keys of one set; empty if it is missing or cannot be read."""
    try:
        with open(os.path.join(root, layout.PINS, label.hex()), "rb", opener=state_file.no_link) as file:
            return _decode(file.read())
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def load_all(root: str) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yields label and keys of every set."""
    for label in labels(root):
        yield label, load(root, label)
