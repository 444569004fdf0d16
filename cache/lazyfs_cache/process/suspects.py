"""Keys whose file, or entry in the index, is wrong: the next transaction removes both."""

from collections import deque
from collections.abc import Iterable
from threading import Event


class Suspects:
    """The keys of damaged values, and of values whose admission was interrupted. Any thread adds them; the
    thread that holds the index lock takes them."""

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
        """Takes all keys, and returns them, the earliest first."""
        return [self._keys.popleft() for _ in range(len(self._keys))]

    def put_back(self, keys: Iterable[bytes]) -> None:
        """Returns keys that a transaction took and did not remove."""
        self._keys.extend(keys)
