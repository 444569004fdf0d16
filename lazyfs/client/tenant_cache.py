"""The cache for one repository: the values that the repository puts into it count towards its share."""

from collections.abc import Sequence
from typing import Protocol

from lazyfs.client.local_cache import LocalCache
from lazyfs.core.digest import Digest


class SharedOutCache(LocalCache, Protocol):
    """A LocalCache that divides its space among tenants, which are repositories."""

    def put(self, key: Digest, data: bytes, /, *, tenant: bytes = b"") -> bool: ...

    def put_many(
        self, values: Sequence[tuple[Digest, bytes]], /, *, tenant: bytes = b""
    ) -> Sequence[bool]: ...


class TenantCache:
    """A LocalCache over a shared one, for one tenant (repository). Reads go straight to the shared cache."""

    def __init__(self, shared: SharedOutCache, tenant: bytes) -> None:
        self._shared = shared
        self._tenant = tenant
        self.get = shared.get
        self.read = shared.read
        self.claim = shared.claim
        self.claim_many = shared.claim_many
        self.wait = shared.wait

    def put(self, key: Digest, data: bytes) -> bool:
        return self._shared.put(key, data, tenant=self._tenant)

    def put_many(self, values: Sequence[tuple[Digest, bytes]]) -> Sequence[bool]:
        return self._shared.put_many(values, tenant=self._tenant)
