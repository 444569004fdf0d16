"""Keys whose file or entry is wrong, or both: the next transaction removes them."""

from collections import deque
from collections.abc import Iterable
from threading import Event


class Suspects:
    """The keys of damaged values, and of values that failed half-way in. Added by any thread, taken by the
    one that holds the index lock."""

    def __init__(self, wake: Event) -> None:
        self._wake = wake
        self._keys: deque[bytes] = deque()

    def add(self, key: bytes) -> None:
        self._keys.append(key)
        self._wake.set()

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def __bool__(self) -> bool:
        return bool(self._keys)

    def take(self) -> list[bytes]:
        """All there are, earliest first."""
        return [self._keys.popleft() for _ in range(len(self._keys))]

    def put_back(self, keys: Iterable[bytes]) -> None:
        """Return keys that a transaction took and did not see to."""
        self._keys.extend(keys)
