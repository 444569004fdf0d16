"""A lock that many threads may hold together, or one alone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedLock:
    """A thread that takes the lock together with others waits only while a thread has it alone; it does not
    wait for threads that still wait to have it alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Holds the lock for the block, beside other threads that hold it together."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, given_up: Callable[[], bool], look: float) -> Iterator[bool]:
        """Holds the lock for the block while no other thread does, and yields True. Asks `given_up` every
        `look` seconds while it waits; if that returns True, yields False without the lock."""
        with self._changed:
            while not self._changed.wait_for(self._free, look):
                if given_up():
                    break
            held = self._free()
            self._alone = self._alone or held
        try:
            yield held
        finally:
            if held:
                with self._changed:
                    self._alone = False
                    self._changed.notify_all()

    def _free(self) -> bool:
        return not self._together and not self._alone
