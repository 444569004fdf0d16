"""Moves a mount from one revision to the next although the kernel keeps every answer."""

import trio

from lazyfs.core.digest import ObjectRef
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import Notified
from lazyfs.vfs.missing_objects import Fetched
from lazyfs.vfs.revision_switch import Invalidation, switch


class Invalidator:
    """Changes the revision of a mount, and removes the changed answers of the old revision from the session
    and the kernel."""

    def __init__(self, filesystem: Filesystem, session: Notified) -> None:
        self._fs = filesystem
        self._session = session

    async def switch(self, repository: str, root: ObjectRef, revision: int) -> None:
        """Shows another revision, and removes the names that changed, and only those, from the kernel's
        memory.

        Returns when the kernel has dropped these names: after that no program sees an old name in a live
        folder. Raises OSError.
        """

        def apply(fetched: Fetched) -> list[Invalidation]:
            return switch(self._fs.tree, repository, root, revision, fetched)

        await self.drop(await self._fs.complete(self._fs.locked(apply)))

    async def catch_up(self, repository: str) -> None:
        """Switches a repository that is shown again after a withdrawal to its present revision. Without this,
        folders that the kernel still knows would show the revision before the withdrawal. Raises OSError."""

        def apply(fetched: Fetched) -> list[Invalidation]:
            shown = self._fs.tree.repositories[repository]  # a refresh may have come first
            return switch(self._fs.tree, repository, shown.root, shown.revision, fetched)

        await self.drop(await self._fs.complete(self._fs.locked(apply)))

    async def drop(self, invalidations: list[Invalidation]) -> None:
        """Removes these listings and names from the session and the kernel; returns when both have dropped
        them."""
        with self._fs.lock:
            self._session.forget_answers({invalidation.number for invalidation in invalidations})
        await trio.to_thread.run_sync(self._notify, invalidations)
        with self._fs.lock:
            self._fs.tree.slots.record_moves()

    def _notify(self, invalidations: list[Invalidation]) -> None:
        # Outside the lock: the kernel makes a notification wait for requests on the same folder.
        for number, name in invalidations:
            if name is None:
                self._session.forget_inode(number)
            else:
                self._session.forget_entry(number, name)
