"""The modules of an image that a Python program imports, found as the interpreter would find them. Nothing of
the image is run."""

import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from lazyfs.core.python_imports import SOURCE, Import, module_imports, names_in
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles
from lazyfs.images.profiles.python_places import PythonPlaces

MODULES: Final = 4096
"""The largest number of modules that are followed; a start of an analysis imports 1,500."""
NAMES: Final = 1 << 16
"""The largest number of names that are looked for. Most names after `from x import` are no modules."""
EXTENSION: Final = 8 << 20
"""The largest number of bytes of an extension module that are searched for names of modules."""
SOURCES: Final = 256 << 20
"""The largest number of bytes of sources and of extension modules that are read. A start of an analysis with
scipy, pandas and awkward takes 104 MB, mostly of extension modules, and 1.5 seconds of processor time."""
STRINGS: Final = 1 << 14
"""The largest number of names that are taken from one extension module."""
DEPTH: Final = 64
"""The largest number of parts of a dotted name."""
LISTED: Final = 512
"""The largest number of directories whose names are kept."""
_FROZEN: Final = frozenset(
    (
        *(b"codecs", b"io", b"abc", b"site", b"os", b"stat", b"posixpath", b"genericpath", b"ntpath"),
        *(b"_collections_abc", b"_sitebuiltins", b"runpy", b"zipimport", b"importlib.util"),
        *(b"importlib.machinery", b"importlib._bootstrap", b"importlib._bootstrap_external"),
    )
)
"""Modules that are built into the interpreter since Python 3.11, and not read from their files."""
START: Final = (
    *(b"encodings", b"encodings.utf_8", b"codecs", b"io", b"abc", b"site", b"os"),
    *(b"sitecustomize", b"usercustomize"),
)
"""The modules that every start of Python imports, as far as they are there."""
_STANDARD: Final = frozenset(name.encode() for name in sys.stdlib_module_names)
"""The names of the standard library's modules. Another version of Python has some others."""
_UNCHECKED: Final = 1
"""Flags of a .pyc file that is used whatever its source holds."""


class Module(NamedTuple):
    """A module that was found."""

    files: tuple[ImageFile, ...]
    """The files that an import reads."""
    source: ImageFile | None
    """The file whose imports are followed: the source, or an extension module; None if there is none."""
    package: bytes
    """The dotted name of the package whose relative imports the module makes."""
    inside: tuple[bytes, ...]
    """The directories of its submodules; none unless it is a package."""


class PythonModules:
    """The modules that the starts of one interpreter import."""

    def __init__(self, files: ImageFiles, places: PythonPlaces, first: bytes | None = None) -> None:
        """`first`: the directory of the script, or the current one, which is searched first; None for
        none."""
        self._files = files
        self._minor = places.minor
        self._added = places.imports
        self._directories = (*([] if first is None else [first]), *places.directories)
        self._stems = lru_cache(LISTED)(self._list)
        self._modules: dict[bytes, Module | None] = {}
        self._followed = 0
        self._read = 0
        """Bytes of sources and extension modules that were read."""

    def start(self) -> Iterator[ImageFile]:
        """Yields the files of the modules that every start imports, in order."""
        yield from self.follow([*(Import(name, 0, ()) for name in START), *self._added])

    def script(self, source: bytes) -> Iterator[ImageFile]:
        """Yields the files of the modules that a script imports, and of those that these import in turn."""
        yield from self.follow(module_imports(source, is_main=True))

    def module(self, name: bytes) -> Iterator[ImageFile]:
        """Yields the files of a module that is run as a script (`-m`), and of the modules that it imports."""
        yield from self.follow([Import(name, 0, (b"__main__",))])
        main = self._modules.get(name + b".__main__") or self._modules.get(name)
        if main is not None and main.source is not None:
            yield from self.follow(module_imports(self._text(main.source), is_main=True), main.package)

    def follow(self, imports: Iterable[Import], package: bytes = b"") -> Iterator[ImageFile]:
        """Yields the files of modules in the order in which they are imported, each module once. `package`:
        the package of the module that has these imports."""
        stack = [self._names(imports, package)]
        while stack and self._has_room():
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
            elif name not in self._modules:
                found = self._modules[name] = self._find(name)
                if found is not None:
                    self._followed += 1
                    yield from found.files
                    stack.append(self._names(self._imports(found), found.package))

    def _has_room(self) -> bool:
        return self._followed < MODULES and len(self._modules) < NAMES and self._read < SOURCES

    def _names(self, imports: Iterable[Import], package: bytes) -> Iterator[bytes]:
        """Yields the names of the modules that these imports name, packages before their modules."""
        for one in imports:
            if one.instead is not None and all(self._is_here(tried, package) for tried in one.instead):
                continue
            base = _absolute(one, package)
            parts = base.split(b".", DEPTH)[:DEPTH] if base else []
            yield from (b".".join(parts[:count]) for count in range(1, len(parts) + 1))
            here = self._modules.get(base)
            if here is not None and here.inside:
                yield from (base + b"." + name for name in one.names)

    def _is_here(self, one: Import, package: bytes) -> bool:
        base = _absolute(one, package)
        return self._modules.get(base) is not None or base.partition(b".")[0] in _STANDARD

    def _find(self, name: bytes) -> Module | None:
        above, _, last = name.rpartition(b".")
        directories = self._directories
        if above:
            package = self._modules.get(above)
            directories = package.inside if package else ()
        parts: list[bytes] = []  # of a package that has no __init__
        for directory in directories:
            stems = self._stems(directory)
            names = stems.get(last, ())
            if last in names:
                inner = directory + b"/" + last
                inside = self._stems(inner)
                found = self._loaded(inner, b"__init__", inside.get(b"__init__", ()), name)
                if found is not None:
                    return self._unless_frozen(name, found._replace(inside=(inner,)))
                if inside:
                    parts.append(inner)
            found = self._loaded(directory, last, names, above)
            if found is not None:
                return self._unless_frozen(name, found)
        return Module((), None, name, tuple(parts)) if parts else None

    def _unless_frozen(self, name: bytes, found: Module) -> Module:
        return found._replace(files=()) if self._minor >= 11 and name in _FROZEN else found

    def _loaded(self, directory: bytes, stem: bytes, names: Iterable[bytes], package: bytes) -> Module | None:
        """Returns the module that the files `names` of a directory make; None if none of them is one."""
        tag = b"%b.cpython-3%d" % (stem, self._minor)
        extensions = [one for one in names if one.endswith(b".so") and one.startswith(tag)]
        extensions += [one for one in (stem + b".abi3.so", stem + b".so") if one in names]
        source = None
        for name in (*extensions, stem + b".py"):
            file = self._files.file(directory + b"/" + name) if name in names else None
            if file is not None:
                if name in extensions:
                    return Module((file,), file, package, ())
                source = file
        if source is None:
            return None
        compiled = self._files.file(b"%b/__pycache__/%b.cpython-3%d.pyc" % (directory, stem, self._minor))
        if compiled is None:
            return Module((source,), source, package, ())
        files = (compiled,) if self._is_fresh(compiled, source) else (compiled, source)
        return Module(files, source, package, ())

    def _is_fresh(self, compiled: ImageFile, source: ImageFile) -> bool:
        """Returns True if Python takes a .pyc file without a look into its source."""
        head = self._files.bytes_at(compiled, 0, 16)
        flags, stamp, size = (int.from_bytes(head[at : at + 4], "little") for at in (4, 8, 12))
        if flags:
            return flags == _UNCHECKED
        entry = source.entry
        return (stamp, size) == (entry.mtime // 10**9 & 0xFFFF_FFFF, entry.size & 0xFFFF_FFFF)

    def _imports(self, module: Module) -> list[Import]:
        if module.source is None:
            return []
        if not module.source.path.endswith(b".so"):
            return module_imports(self._text(module.source))
        names = names_in(self._text(module.source, EXTENSION))
        likely = (name for name in names if b"." in name or name in _STANDARD)
        return [Import(name, 0, ()) for name in dict.fromkeys(islice(likely, STRINGS))]

    def _text(self, file: ImageFile, most: int = SOURCE) -> bytes:
        text = self._files.bytes_at(file, 0, most)
        self._read += len(text)
        return text

    def _list(self, directory: bytes) -> dict[bytes, list[bytes]]:
        """Returns the names in a directory, by the part before their first dot."""
        found: dict[bytes, list[bytes]] = {}
        for name in self._files.names(directory):
            found.setdefault(name.partition(b".")[0], []).append(name)
        return found


def _absolute(one: Import, package: bytes) -> bytes:
    """Returns the dotted name of the module that an import names; empty for one that leads out of its
    package."""
    if not one.level:
        return one.module
    parts = package.split(b".") if package else []
    if one.level > len(parts):
        return b""
    return b".".join([*parts[: len(parts) - one.level + 1], *([one.module] if one.module else [])])
