"""The catalogs above images that are worth fetching before a reader asks. Pure.

If there are many images, none of them is followed: it is not known which one will be started.
"""

from lazyfs.core.catalog.entry import LIVE, Entry
from lazyfs.core.digest import ObjectRef

FOLDERS = 8
"""The largest number of folders above images' names that are fetched."""
IMAGES = 2
"""The largest number of images whose catalogs are fetched. In a folder with more links to images, none is
followed."""
BYTES = 1 << 20
"""The largest number of plaintext bytes of a catalog that is fetched."""


class UpperChoice:
    """The folders and images still to be followed from one root."""

    def __init__(self) -> None:
        self._folders = FOLDERS
        self._images = IMAGES

    def below(self, entries: list[Entry]) -> tuple[list[ObjectRef], list[bytes]]:
        """Returns the folders to be followed among the entries of a live folder, and the targets of its links
        to images to be followed."""
        folders = []
        for entry in entries:
            if entry.nested and entry.flags & LIVE and not entry.name.startswith(b".") and self._folders:
                self._folders -= 1
                folders.append(entry.nested)
        links = [entry.content for entry in entries if entry.is_link]
        if len(links) > self._images:
            return folders, []
        self._images -= len(links)
        return folders, links
