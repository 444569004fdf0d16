"""Objects written directly into a store directory, in the publisher's layout, and requests for them."""

import random
import time
from pathlib import Path

from lazyfs.client.download import request_of
from lazyfs.core.codec import encode
from lazyfs.core.digest import ObjectRef, object_path, ref_of
from lazyfs.transport.fetcher import Request, never_cancelled


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


def object_request(ref: ObjectRef, patience: float = 10.0) -> Request:
    """Returns a request for an object, with a deadline in `patience` seconds. The fetcher verifies and
    decodes the answer."""
    return request_of(ref, time.monotonic() + patience, never_cancelled)
