"""Unix sockets at paths of any length: the kernel's address takes 107 bytes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 107
"""Bytes of sun_path without its closing zero byte (unix(7))."""


@contextmanager
def address_of(path: str) -> Iterator[str]:
    """Yields an address for bind or connect that means `path`; it is valid within the block. Raises
    OSError."""
    if len(os.fsencode(path)) <= LONGEST:
        yield path
        return
    directory, name = os.path.split(path)
    parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{parent}/{name}"
    finally:
        os.close(parent)
