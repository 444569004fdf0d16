"""Objects written into a store directory in the publisher's layout, without a publisher."""

import random
from pathlib import Path

from lazyfs.core.codec import encode
from lazyfs.core.digest import ObjectRef, object_path, ref_of


def store_object(directory: Path, plain: bytes) -> ObjectRef:
    """Writes one object; returns its reference."""
    ref = ref_of(plain)
    file = directory / object_path(ref.digest)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(plain))
    return ref


def store_objects(directory: Path, count: int, size: int, seed: int = 0) -> dict[ObjectRef, bytes]:
    """Writes `count` incompressible objects of `size` bytes; returns their contents by reference."""
    source = random.Random(seed)
    plains = [source.randbytes(size) for _ in range(count)]
    return {store_object(directory, plain): plain for plain in plains}
