"""The objects of one repository that the local cache has. Nothing here waits for the network or needs it."""

from lazyfs.client.local_cache import LocalCache
from lazyfs.client.private_cache import PrivateCache
from lazyfs.core.digest import ObjectRef


class ObjectsAtHand:
    """A repository's objects in the local cache."""

    def __init__(self, cache: LocalCache, namespace: bytes = b"") -> None:
        """`namespace`: sets its objects in the cache apart, for a repository that needs a credential."""
        self.namespace = namespace
        self.cache = PrivateCache(cache, namespace) if namespace else cache
        """The part of the cache that this repository reads and writes."""

    def at_hand(self, ref: ObjectRef) -> bytes | None:
        """Returns the plaintext; None if the local cache does not have it. Never waits for the network."""
        plain = self.cache.get(ref.digest)
        return plain if plain is not None and len(plain) == ref.size else None

    def read_at_hand(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        """Returns part of the plaintext, cut at its end; None if the local cache does not have the object."""
        return self.cache.read(ref.digest, start, max(min(length, ref.size - start), 0), ref.size)
