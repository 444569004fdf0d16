"""Moves a mount from one revision to the next although the kernel keeps every answer.

A notification to the kernel about a name waits until every lookup in that folder is answered, and holds up
new ones meanwhile. So no lookup may wait for something that waits for a notification.
"""

from collections.abc import Callable

import trio

from lazyfs.core.digest import ObjectRef
from lazyfs.fuse.filesystem import Call, Filesystem
from lazyfs.fuse.session import Notified
from lazyfs.vfs.missing_objects import Fetched
from lazyfs.vfs.revision_switch import Invalidation, switch


class Invalidator:
    """Changes the revision of a mount, and removes the changed answers of the old revision from the session
    and the kernel. Belongs to one trio run."""

    def __init__(self, filesystem: Filesystem, session: Notified) -> None:
        self._fs = filesystem
        self._session = session
        self._undropped = 0
        """The number of switches whose old names the kernel may still know."""

    async def switch(
        self, repository: str, root: ObjectRef, revision: int, switched: Callable[[], object]
    ) -> None:
        """Shows another revision, and removes the names that changed, and only those, from the kernel's
        memory.

        Calls `switched` once lookups are answered from the other revision. Returns when the kernel has
        dropped the names: after that no program sees an old name in a live folder. Raises OSError.
        """

        def apply(fetched: Fetched) -> list[Invalidation]:
            return switch(self._fs.tree, repository, root, revision, fetched)

        await self._show(apply, switched)

    async def catch_up(self, repository: str, switched: Callable[[], object]) -> None:
        """Switches the folders that the kernel knows from an earlier process, or from before a withdrawal, to
        the present revision of their repository. Otherwise the same as `switch`."""

        def apply(fetched: Fetched) -> list[Invalidation]:
            shown = self._fs.tree.repositories[repository]  # a refresh may have come first
            return switch(self._fs.tree, repository, shown.root, shown.revision, fetched)

        await self._show(apply, switched)

    async def drop(self, invalidations: list[Invalidation]) -> None:
        """Removes these listings and names from the session and the kernel; returns when both have dropped
        them."""
        with self._fs.lock:
            self._session.forget_answers({invalidation.number for invalidation in invalidations})
        await trio.to_thread.run_sync(self._notify, invalidations)

    async def _show(self, apply: Call[list[Invalidation]], switched: Callable[[], object]) -> None:
        def counted(fetched: Fetched) -> list[Invalidation]:
            invalidations = apply(fetched)
            self._undropped += 1
            return invalidations

        invalidations = await self._fs.complete(self._fs.locked(counted))
        switched()
        await self.drop(invalidations)
        with self._fs.lock:
            self._undropped -= 1
            if not self._undropped:  # a record says of every name before it that the kernel has dropped it
                self._fs.tree.slots.record_moves()

    def _notify(self, invalidations: list[Invalidation]) -> None:
        # Outside the lock: the kernel makes a notification wait for requests on the same folder.
        for number, name in invalidations:
            if name is None:
                self._session.forget_inode(number)
            else:
                self._session.forget_entry(number, name)
