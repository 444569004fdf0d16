"""The libraries that an ELF file needs, found in its image as ld.so would find them.

The libraries are known once the file's dynamic section is in the cache. That is long before the program opens
the libraries one after the other, with a wait for each.
"""

import re
from collections import OrderedDict
from fnmatch import translate
from typing import Final

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest
from lazyfs.core.elf import Dynamic, NotAtHand, dynamic
from lazyfs.core.errors import FormatError
from lazyfs.core.library_search import CONF, Conf, parse_conf, places
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.missing_objects import LocalObjects
from lazyfs.vfs.paths_in_images import FileInImage, find_file, list_directory
from lazyfs.vfs.slots import Slot

FILES: Final = 4096
"""The largest number of files (by content) that are remembered, so that the libraries of each are returned
once. If one is forgotten, its libraries may be returned again."""
IMAGES: Final = 64
"""The largest number of images whose ld.so.conf is remembered."""
CONF_FILES: Final = 32
"""The largest number of files of ld.so.conf.d that are read in one image."""
CONF_BYTES: Final = 64 << 10


class NeededLibraries:
    """Finds the libraries that files need, once for each file. Belongs to one trio run."""

    def __init__(self, entries: Entries, objects: LocalObjects) -> None:
        self._entries = entries
        self._objects = objects
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._confs: OrderedDict[Digest, tuple[bytes, ...]] = OrderedDict()

    def asked(self, file: FileInImage) -> Dynamic | None:
        """Returns what the dynamic section of a file asks for; None if the section is not at hand yet, or was
        returned before. Reads from the local disk."""
        if file.entry.content in self._seen:
            return None
        try:
            found = dynamic(lambda offset, length: self._read(file, offset, length))
        except NotAtHand:
            return None
        self._seen[file.entry.content] = None
        if len(self._seen) > FILES:
            self._seen.popitem(last=False)
        return found

    def find(self, asked: Dynamic, directory: bytes, top: Slot) -> list[FileInImage]:
        """Returns the libraries that a file in `directory` of the image `top` asks for, without those that
        were looked up before. Raises Need, NeedRepository. Call it under the tree's lock."""
        conf = self._conf(top) if asked.needed else ()
        found = []
        for name in asked.needed:
            for place in places(name, asked, directory, conf):
                library = find_file(self._entries, top, place)
                if library is not None:
                    found.append(library)
                    break
        return [library for library in found if library.entry.content not in self._seen]

    def _conf(self, top: Slot) -> tuple[bytes, ...]:
        """Returns the search directories of an image's ld.so.conf, as far as its files are at hand."""
        known = self._confs.get(top.ref.digest)
        if known is not None:
            return known
        main = parse_conf(self._text(top, CONF))
        directories = list(main.directories)
        for included in self._included(top, main):
            directories += parse_conf(self._text(top, included)).directories
        found = self._confs[top.ref.digest] = tuple(dict.fromkeys(directories))
        if len(self._confs) > IMAGES:
            self._confs.popitem(last=False)
        return found

    def _included(self, top: Slot, conf: Conf) -> list[bytes]:
        found: list[bytes] = []
        for pattern in conf.included:
            folder, _, last = pattern.rpartition(b"/")
            fits = re.compile(translate(last.decode("latin-1")))
            names = list_directory(self._entries, top, folder)
            found += (folder + b"/" + name for name in names if fits.match(name.decode("latin-1")))
        return found[:CONF_FILES]

    def _text(self, top: Slot, path: bytes) -> bytes:
        file = find_file(self._entries, top, path)
        if file is None or file.entry.size > CONF_BYTES:
            return b""
        return self._read(file, 0, file.entry.size) or b""

    def _read(self, file: FileInImage, offset: int, length: int) -> bytes | None:
        """Returns `length` bytes of a file from `offset` on, fewer if the file ends before; None unless all
        of them are at hand."""
        length = min(length, file.entry.size - offset)
        if length <= 0:
            return b""
        place = file.entry.place(file.packs)
        if place is not None:
            return self._objects.read_at_hand(place.ref, place.start + offset, length)
        chunks = file.entry.chunks or self._listed_chunks(file.entry)
        if chunks is None:
            return None
        slices = chunks.slices(offset, length)
        parts = [self._objects.read_at_hand(*part) for part in slices]
        return None if None in parts else b"".join(part for part in parts if part is not None)

    def _listed_chunks(self, entry: Entry) -> ChunkList | None:
        """Returns the chunks of a file whose chunk list is an object; None if that object is not at hand."""
        encoded = self._objects.at_hand(entry.chunk_list) if entry.chunk_list else None
        try:
            return ChunkList(encoded, entry.size, entry.detail) if encoded else None
        except FormatError:
            return None
