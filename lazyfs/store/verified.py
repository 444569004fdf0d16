"""Reads objects of a store whole, and verifies them."""

from collections.abc import Callable

from lazyfs.core import codec
from lazyfs.core.digest import ObjectRef
from lazyfs.store.protocol import ReadableStore


def reader(store: ReadableStore) -> Callable[[ObjectRef], bytes]:
    """Returns a function that reads objects and verifies them. It raises NotFound, BadData, StoreError."""
    return lambda ref: codec.open_object(store.get(ref.digest), ref)
