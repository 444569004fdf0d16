"""Fetches ahead of readers on their way through an image, and decodes the large catalogs on their way."""

import logging
import threading
from collections.abc import Callable
from functools import partial

import trio

from lazyfs.client.objects import Objects
from lazyfs.client.system_task import begin
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.prefetch.walks import Onward, Walks
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.missing_objects import Need, NeedDecoding
from lazyfs.vfs.walk_order import objects_after

log = logging.getLogger(__name__)


class WalkAhead:
    """The readers on their way through the images of one repository. Belongs to one trio run; `read` and
    `missed` are called from any thread, under the filesystem's lock."""

    def __init__(
        self,
        objects: Objects,
        entries: Entries,
        lock: threading.Lock,
        soon: Callable[[Callable[[], None]], None],
    ) -> None:
        """`lock` is held around every call of `entries`. `soon` makes a call later in the event loop."""
        self._objects = objects
        self._entries = entries
        self._lock = lock
        self._soon = soon
        self._walks = Walks()
        self._decoding = False

    def read(self, read: ReadPlan) -> list[ObjectRef]:
        """Notes a read when it begins. Returns the objects to fetch ahead."""
        return [ref for part in read.slices for ref in self._walks.read(part.ref)]

    def missed(self, read: ReadPlan) -> list[ObjectRef]:
        """Notes a read that has to wait. Returns the objects to fetch ahead."""
        onward = partial(self._onward, read.number)
        return [ref for part in read.slices for ref in self._walks.missed(part.ref, onward)]

    def _onward(self, number: int) -> Onward:
        return objects_after(self._entries, number, self._objects.is_at_hand, self._decode_soon)

    def _decode_soon(self, need: NeedDecoding) -> None:
        if not self._decoding:
            self._decoding = True
            self._soon(lambda: self._begin(need))

    def _begin(self, need: NeedDecoding) -> None:
        if not begin(self._decode, need, name="decoding ahead"):
            self._decoding = False

    async def _decode(self, need: NeedDecoding) -> None:
        # A system task: an error that escapes would end the whole trio run.
        try:
            keep = await trio.to_thread.run_sync(need.decode)
            with self._lock:
                keep()
        except (Need, LazyfsError):
            pass  # a reader who comes there meets it
        except Exception:
            log.exception("decoding ahead")
        finally:
            self._decoding = False
