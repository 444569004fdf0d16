"""The parts of one repository that a filesystem needs: its objects, its root, and its prefetching."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.missing_objects import Fetched, LocalObjects
from lazyfs.vfs.siblings import Siblings


class RepositoryObjects(LocalObjects, Protocol):
    """Objects of one repository, at hand or to be fetched."""

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None, hurried: bool = False) -> bytes:
        """Returns the verified plaintext, with `hurried` before the cache has admitted it. Raises
        TransportError or BadData."""
        ...

    async def fetch_copy(
        self, file: ObjectRef, profile: Digest | None = None, *, deadline: float | None = None
    ) -> dict[Digest, bytes]:
        """Returns a hot pack with a copy of a small file, as {digest: plaintext}, if a profile is bringing
        one; may wait for it. Otherwise returns an empty dict. `file`: the file's SHA-256 and size. `profile`:
        the profile to wait for while it is being loaded."""
        ...


class Prefetching(Protocol):
    """Receives a repository's reads, under the filesystem's lock and from any thread; returns at once.

    `lazyfs.prefetch.prefetcher.Prefetcher` is a mount's implementation.
    """

    def on_enter(self, image: ObjectRef, profile: ObjectRef | None, program: str = "", /) -> None:
        """Is told of an image that was looked up, or in which a program is about to be started. `image`: its
        top catalog. `profile`: its profile, if it has one. `program`: the program; empty if it is not
        known."""
        ...

    def on_read(self, read: ReadPlan, /) -> None:
        """Is told of a read when it begins."""
        ...

    def on_miss(self, read: ReadPlan, siblings: Siblings | None, fetched: Fetched, /) -> Digest | None:
        """Is told of a read that has to wait for objects. `siblings`: the directory around its file, if there
        is one. Returns the profile of its image if a small file is read and the profile may still be
        loading."""
        ...

    def on_arrival(self, read: ReadPlan, fetched: Fetched, /) -> None:
        """Is told of a read that had to wait, once the objects it needs are here. `fetched`: these
        objects."""
        ...


class OpenRepository(msgspec.Struct, frozen=True):
    """One repository as it is shown from now on."""

    name: str
    objects: RepositoryObjects
    root: ObjectRef
    revision: int
    prefetching: Prefetching
    facts: Callable[[], dict[str, str]] = dict
    """Returns the repository's extended attributes that only the daemon knows: `user.host`, `user.proxy`."""
    is_newest: bool = True
    """False until a newer revision has been looked for (`Filesystem.settle`)."""
