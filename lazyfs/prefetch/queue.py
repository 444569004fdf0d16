"""Fetching what nobody waits for yet: bounded, and never in the way of readers."""

import logging
from collections.abc import Iterable

import trio

from lazyfs.client.objects import Objects
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import LazyfsError

log = logging.getLogger(__name__)

TASKS = 24
"""Requests under way for nobody. Readers have the rest of `objects.THREADS`."""
BYTES = 64 << 20
"""Plaintext bytes asked for and not here yet; more is dropped, the reader will ask for it itself."""


class Background:
    """Brings objects into the cache. Belongs to one trio run."""

    def __init__(self, objects: Objects, *, tasks: int = TASKS, most: int = BYTES) -> None:
        self._objects = objects
        self._limiter = trio.CapacityLimiter(tasks)
        self._most = most
        self._coming: set[Digest] = set()
        self._bytes = 0
        self.started = 0
        self.dropped = 0

    def start(self, refs: Iterable[ObjectRef]) -> None:
        """Begins to fetch what is neither here nor on its way; returns at once. A reader who comes for one
        of them joins its flight. Failures are the reader's to meet: it will ask again.

        Does nothing while the cache admits nothing: the bytes would be fetched twice.
        """
        for ref in refs:
            if ref.digest in self._coming or not self._objects.keeps:
                continue
            if ref.digest in self._objects.coming or ref.digest in self._objects.expected:
                continue
            if self._bytes + ref.size > self._most:
                self.dropped += 1
                continue
            if self._objects.read_at_hand(ref, 0, 1) is not None:
                continue
            self._coming.add(ref.digest)
            self._bytes += ref.size
            self.started += 1
            trio.lowlevel.spawn_system_task(self._bring, ref, name=f"ahead {ref.digest.hex()[:12]}")

    async def _bring(self, ref: ObjectRef) -> None:
        try:
            async with self._limiter:
                await self._objects.fetch(ref, held=False)
        except LazyfsError:
            pass
        except Exception:  # a system task: what escapes from it would end the whole trio run
            log.exception("object %s", ref.digest.hex())
        finally:
            self._coming.discard(ref.digest)
            self._bytes -= ref.size
