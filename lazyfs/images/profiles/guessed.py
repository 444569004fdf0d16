"""Guesses what a start of an image reads, if nobody has traced one.

The guess follows the image's command: the program and the scripts that it names, the interpreters of these
scripts, the libraries that all of these need, as ld.so would find them, and the modules that every start of
Python imports.
"""

import posixpath
import re
import shlex
from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatchcase

from lazyfs.core import elf
from lazyfs.core.digest import Digest
from lazyfs.core.library_search import CONF, parse_conf, places
from lazyfs.core.oci.container_config import RunConfig
from lazyfs.core.oci.run_config import DEFAULT_PATH
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles

FILES = 1024
"""The largest number of files of one guess; programs with 300 libraries are known."""
WHOLE = 2 << 20
"""Size in bytes up to which a guess lists all objects of a file. Of a larger file it lists only the parts
that the dynamic linker itself reads, because nobody knows which part of its code a program uses."""
FIRST_SEGMENT = 2 << 20
"""The largest number of bytes listed of the first segment of a large file; the segment may hold code too."""
LINE = 256
"""The number of bytes, from the beginning of a file, in which the first line of a script is looked for."""
WORDS = 64
"""The largest number of words of a command that are looked at."""
CONF_FILES = 32
CONF_BYTES = 64 << 10
LINKER_CACHE = b"etc/ld.so.cache"

_PYTHON = re.compile(rb"python(3\.[0-9]+)t?")
_ENCODINGS = ("encodings/__init__", "encodings/aliases", "encodings/utf_8")
_FROZEN_SINCE_11 = (
    *("codecs", "io", "abc", "site", "os", "stat", "posixpath", "genericpath", "_collections_abc"),
    "_sitebuiltins",
)
"""Modules that Python imports at every start; since Python 3.11 they are built into the interpreter."""


class StartGuess:
    """Guesses for one image."""

    def __init__(self, files: ImageFiles, run: RunConfig) -> None:
        self._files = files
        self._words = [*(run.entrypoint or []), *(run.cmd or [])][:WORDS]
        self._path = run.environment.get("PATH") or DEFAULT_PATH
        self._directory = run.working_dir or "/"
        self._seen: dict[bytes, None] = {}
        self._waiting: deque[ImageFile] = deque()
        self._conf: tuple[bytes, ...] | None = None

    def touched(self) -> dict[Digest, None]:
        """Returns the objects and small files that a start is guessed to read, in the order of the start.
        Raises NotFound, BadData or StoreError for an object that cannot be read."""
        found: dict[Digest, None] = {}
        for program in self._named():
            self._add(program)
        while self._waiting and len(self._seen) <= FILES:
            file = self._waiting.popleft()
            found.update(dict.fromkeys(self._objects(file)))
            for needed in self._needed(file):
                self._add(needed)
        return found

    def _add(self, file: ImageFile | None) -> None:
        if file is not None and file.entry.is_file and file.path not in self._seen:
            self._seen[file.path] = None
            self._waiting.append(file)

    def _named(self) -> Iterator[ImageFile | None]:
        """Yields the files that the words of the command name, and those that the script in a shell's `-c
        SCRIPT` names; None for a word that names no file."""
        words = self._words
        if len(words) >= 3 and words[1] == "-c":
            yield self._program(words[0])
            try:
                words = shlex.split(words[2])[:WORDS]
            except ValueError:  # quotes that only the shell understands
                return
            words = words[1:] if words[:1] == ["exec"] else words
        for number, word in enumerate(words):
            yield self._program(word) if not number else self._file(word)

    def _program(self, word: str) -> ImageFile | None:
        if "/" in word:
            return self._file(word)
        for directory in self._path.split(":"):
            file = self._file(f"{directory}/{word}") if directory else None
            if file is not None and file.entry.mode & 0o111:
                return file
        return None

    def _file(self, word: str) -> ImageFile | None:
        path = posixpath.join(self._directory, word).encode(errors="surrogateescape")
        file = self._files.find(path)
        return file if file is not None and file.entry.is_file else None

    def _needed(self, file: ImageFile) -> Iterator[ImageFile | None]:
        """Yields the files that a file needs to run, such as its interpreter and its libraries; None for one
        that is missing."""
        head = self._files.bytes_at(file, 0, LINE)
        if head.startswith(b"#!"):
            words = head[2:].partition(b"\n")[0].decode(errors="replace").split()
            for number, word in enumerate(words[:2]):
                yield self._program(word) if number == 0 or words[0].endswith("/env") else None
        elif head.startswith(elf.MAGIC):
            yield from self._linked(file)
            yield from self._python(file)

    def _linked(self, file: ImageFile) -> Iterator[ImageFile | None]:
        def read(offset: int, length: int) -> bytes:
            return self._files.bytes_at(file, offset, length)

        linker = elf.interpreter(read)
        if linker:
            yield self._files.find(linker)
            yield self._files.find(LINKER_CACHE)
        asked = elf.dynamic(read)
        directory = file.path.rpartition(b"/")[0]
        for name in asked.needed:
            found = map(self._files.find, places(name, asked, directory, self._directories()))
            yield next((one for one in found if one is not None and one.entry.is_file), None)

    def _directories(self) -> tuple[bytes, ...]:
        """Returns the library directories that the image's /etc/ld.so.conf and the files that it includes
        name."""
        if self._conf is None:
            main = parse_conf(self._text(CONF))
            found = list(main.directories)
            for pattern in main.included:
                folder, _, last = pattern.rpartition(b"/")
                names = [name for name in self._files.names(folder) if fnmatchcase(name, last)]
                for name in names[:CONF_FILES]:
                    found += parse_conf(self._text(folder + b"/" + name)).directories
            self._conf = tuple(dict.fromkeys(found))
        return self._conf

    def _text(self, path: bytes) -> bytes:
        file = self._files.find(path)
        return self._files.bytes_at(file, 0, CONF_BYTES) if file is not None and file.entry.is_file else b""

    def _python(self, file: ImageFile) -> Iterator[ImageFile | None]:
        """Yields the modules that a Python interpreter imports at every start; None for one that is missing.
        Yields nothing for another program."""
        directory, _, name = file.path.rpartition(b"/")
        matched = _PYTHON.fullmatch(name)
        if matched is None:
            return
        version = matched[1].decode()
        library = posixpath.join(directory.decode(errors="surrogateescape"), f"../lib/python{version}")
        minor = int(version.partition(".")[2])
        for module in _ENCODINGS + (_FROZEN_SINCE_11 if minor < 11 else ()):
            folder, _, last = module.rpartition("/")
            cached = posixpath.join(library, folder, f"__pycache__/{last}.cpython-3{minor}.pyc")
            compiled = self._files.find(cached.encode(errors="surrogateescape"))
            source = f"{library}/{module}.py".encode(errors="surrogateescape")
            yield compiled or self._files.find(source)

    def _objects(self, file: ImageFile) -> Iterator[Digest]:
        """Yields those of a file's objects that a start is guessed to read; for a small file in a pack, the
        file's own digest."""
        parts = self._files.parts(file)
        wanted = [(0, file.entry.size)]
        if file.entry.size > WHOLE:
            linked = elf.linked_parts(lambda offset, length: self._files.bytes_at(file, offset, length))
            first = [(start, min(length, FIRST_SEGMENT)) for start, length in linked[:1]]
            wanted = [*first, *linked[1:]] or [(0, FIRST_SEGMENT)]
        at = 0
        for part in parts:
            if any(start < at + part.length and at < start + length for start, length in wanted):
                yield part.ref.digest
            at += part.length
