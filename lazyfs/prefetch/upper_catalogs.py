"""The catalogs between a repository's root and its images, fetched before a reader asks for them.

Each catalog names the next, so a first start would wait for them one after the other: the root, a registry's
folder, the folders above images' trees, the image. They are fetched as soon as the root is here, while the
mount is still being set up, and side by side where possible. A revision of few folders names all their
catalogs, so that these come along with the root.
"""

import logging
from collections.abc import Iterable
from contextlib import suppress

import trio

from lazyfs.client.objects import Objects
from lazyfs.core.catalog.entry import Entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.core.params import FLAT
from lazyfs.prefetch.upper_choice import BYTES, UpperChoice

log = logging.getLogger(__name__)


class UpperCatalogs:
    """Prefetches the catalogs from one root down to its images, within the limits of UpperChoice. Belongs to
    one trio run; `run` is called once."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._choice = UpperChoice()
        self._flat: dict[bytes, ObjectRef] = {}
        self._flat_known = trio.Event()

    async def run(self, root: ObjectRef, first: Iterable[ObjectRef] = ()) -> None:
        """Fetches the catalogs into the cache, `first` along with the root. A failure is left to the reader,
        who asks again; bugs are logged."""
        try:
            async with trio.open_nursery() as nursery:
                for ref in first:
                    nursery.start_soon(self._plain, ref)
                await self._run(root)
        except Exception:  # a system task: an error that escapes would end the whole trio run
            log.exception("catalogs below %s", root.digest.hex())

    async def _run(self, root: ObjectRef) -> None:
        top = await self._entries(root)
        flat = next((entry.nested for entry in top if entry.name == FLAT), None)
        if flat is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fetch_flat, flat)
                self._below(top, nursery)

    async def _fetch_flat(self, ref: ObjectRef) -> None:
        self._flat = {entry.name: entry.nested for entry in await self._entries(ref) if entry.nested}
        self._flat_known.set()

    def _below(self, entries: list[Entry], nursery: trio.Nursery) -> None:
        folders, links = self._choice.below(entries)
        for ref in folders:
            nursery.start_soon(self._folder, ref, nursery)
        for target in links:
            nursery.start_soon(self._image, target)

    async def _folder(self, ref: ObjectRef, nursery: trio.Nursery) -> None:
        self._below(await self._entries(ref), nursery)

    async def _image(self, target: bytes) -> None:
        """Fetches the catalogs that a tag's link leads to: `../.flat/xx/<config digest>`."""
        above, _, below = target.rpartition(FLAT + b"/")
        group, _, name = below.partition(b"/")
        await self._flat_known.wait()
        folder = self._flat.get(group)
        if folder is not None and not above.strip(b"./"):
            for entry in await self._entries(folder):
                if entry.name == name and entry.nested:
                    await self._entries(entry.nested)

    async def _entries(self, ref: ObjectRef) -> list[Entry]:
        """Returns the entries of a catalog's top directory; none if the catalog is too large, cannot be
        fetched, or cannot be kept."""
        plain = await self._plain(ref)
        try:
            return [] if plain is None else await trio.to_thread.run_sync(_top, plain)
        except LazyfsError:
            return []

    async def _plain(self, ref: ObjectRef) -> bytes | None:
        if ref.size > BYTES:
            return None
        plain = self._objects.at_hand(ref)
        if plain is None and self._objects.keeps:
            with suppress(LazyfsError):
                plain = await self._objects.fetch(ref, ahead=True)
        return plain


def _top(plain: bytes) -> list[Entry]:
    return Catalog(plain).directory(0).entries
