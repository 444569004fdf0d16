"""The modules of an image that a Perl program loads, found as perl would find them. Nothing of the image is
run."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from lazyfs.core.perl_imports import (
    SOURCE,
    Loaded,
    extension_path,
    library_directories,
    loaded_modules,
    module_path,
)
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles

PERL: Final = re.compile(rb"perl(5[0-9.]*)?(-[\w-]+)?")
"""The name of a Perl interpreter, links followed."""
LIBRARY: Final = re.compile(rb"libperl\.so[0-9.]*")
PROGRAM: Final = 8 << 20
"""The largest number of bytes of a perl that are searched for its directories; it has 4 MB."""
MODULES: Final = 2048
"""The largest number of modules that are looked for."""
SOURCES: Final = 32 << 20
"""The largest number of bytes of sources that are read."""


class PerlModules:
    """The modules that one interpreter loads."""

    def __init__(self, files: ImageFiles, programs: Iterable[ImageFile], first: Iterable[bytes] = ()) -> None:
        """`programs`: the interpreter, and its library if it has one. `first`: directories that are searched
        before the interpreter's own."""
        self._files = files
        listed = [*first]
        for program in programs:
            listed += library_directories(files.bytes_at(program, 0, PROGRAM))
        here = [found for found in map(files.find, listed) if found is not None]
        self._directories = tuple(dict.fromkeys(one.path for one in here if one.entry.is_dir))
        self._read = 0
        self._seen: set[bytes] = set()

    def script(self, source: bytes, modules: Iterable[bytes] = ()) -> Iterator[ImageFile]:
        """Yields the files of the modules that a script loads, and of those that these load in turn, in
        order. `modules`: those that the command line names. A module that may not be loaded adds only the
        modules that it would load for sure."""
        stack = [iter([*(Loaded(name, sure=True) for name in modules), *loaded_modules(source)])]
        while stack and len(self._seen) < MODULES and self._read < SOURCES:
            one = next(stack[-1], None)
            if one is None:
                stack.pop()
            elif one.name not in self._seen:
                self._seen.add(one.name)
                found = self._find(module_path(one.name))
                if found is not None:
                    yield found
                    compiled = self._find(extension_path(one.name))
                    if compiled is not None:
                        yield compiled
                    text = self._files.bytes_at(found, 0, SOURCE)
                    self._read += len(text)
                    inner = loaded_modules(text)
                    stack.append(iter([other for other in inner if one.sure or other.sure]))

    def _find(self, path: bytes) -> ImageFile | None:
        return self._files.first_file(directory + b"/" + path for directory in self._directories)
