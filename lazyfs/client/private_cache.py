"""The part of a shared cache that belongs to one repository which needed a credential.

In a cache that all repositories of a user share, the name of an object would be enough to read it. A
stranger's repository may name an object of a private one and show it as a file of its own. So objects of a
repository that asked for a credential lie under keys of their own. A reader without the repository's
namespace cannot read these objects. Nor does the time that a read takes tell the reader that they are in the
cache.
"""

from collections.abc import Sequence

from lazyfs.client.local_cache import CacheLease, LocalCache
from lazyfs.core.digest import Digest, sha256


def cache_key(namespace: bytes, digest: Digest) -> Digest:
    """Returns the key of an object in the cache: for a public repository, whose namespace is empty, the
    object's digest itself."""
    return sha256(namespace + digest) if namespace else digest


class PrivateCache:
    """A LocalCache over a shared one, for the holders of a namespace."""

    def __init__(self, shared: LocalCache, namespace: bytes) -> None:
        self._shared = shared
        self._namespace = namespace

    def get(self, key: Digest) -> bytes | None:
        return self._shared.get(cache_key(self._namespace, key))

    def read(self, key: Digest, offset: int, length: int, size: int | None = None) -> bytes | None:
        return self._shared.read(cache_key(self._namespace, key), offset, length, size)

    def put(self, key: Digest, data: bytes) -> bool:
        return self._shared.put(cache_key(self._namespace, key), data)

    def claim(self, key: Digest, waited: float = 0.0) -> CacheLease | None:
        return self._shared.claim(cache_key(self._namespace, key), waited)

    def claim_many(self, keys: Sequence[Digest]) -> Sequence[CacheLease | None]:
        return self._shared.claim_many([cache_key(self._namespace, key) for key in keys])

    def put_many(self, values: Sequence[tuple[Digest, bytes]]) -> Sequence[bool]:
        return self._shared.put_many([(cache_key(self._namespace, key), data) for key, data in values])

    def wait(self, key: Digest, timeout: float, waited: float = 0.0) -> bool:
        return self._shared.wait(cache_key(self._namespace, key), timeout, waited)
