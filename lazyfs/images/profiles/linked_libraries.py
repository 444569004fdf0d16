"""The libraries that programs of an image need, found as ld.so would find them."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

from lazyfs.core import elf
from lazyfs.core.library_search import CONF, parse_conf, places
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles

CONF_FILES: Final = 32
CONF_BYTES: Final = 64 << 10
LINKER_CACHE: Final = b"etc/ld.so.cache"


class LinkedLibraries:
    """The libraries of one image."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files
        self._conf: tuple[bytes, ...] | None = None

    def needed(self, file: ImageFile) -> Iterator[ImageFile | None]:
        """Yields the dynamic linker of an ELF file and the libraries that it names; None for one that is
        missing."""

        def read(offset: int, length: int) -> bytes:
            return self._files.bytes_at(file, offset, length)

        linker = elf.interpreter(read)
        if linker:
            yield self._files.find(linker)
            yield self._files.find(LINKER_CACHE)
        asked = elf.dynamic(read)
        directory = file.path.rpartition(b"/")[0]
        for name in asked.needed:
            yield self._files.first_file(places(name, asked, directory, self._directories()))

    def _directories(self) -> tuple[bytes, ...]:
        """Returns the library directories that the image's /etc/ld.so.conf and the files that it includes
        name."""
        if self._conf is None:
            main = parse_conf(self._files.text(CONF, CONF_BYTES))
            found = list(main.directories)
            for pattern in main.included:
                folder, _, last = pattern.rpartition(b"/")
                names = [name for name in self._files.names(folder) if fnmatchcase(name, last)]
                for name in names[:CONF_FILES]:
                    found += parse_conf(self._files.text(folder + b"/" + name, CONF_BYTES)).directories
            self._conf = tuple(dict.fromkeys(found))
        return self._conf
