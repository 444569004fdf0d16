"""Guesses what a start of an image reads, if nobody has traced one.

The guess follows the image's command: the program and the scripts that it names, the interpreters of these
scripts, the libraries that all of these need, as ld.so would find them, and the modules that Python and Perl
programs import, as these would find them. Nothing of the image is run.
"""

import posixpath
import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from lazyfs.core import elf
from lazyfs.core.digest import Digest
from lazyfs.core.oci.container_config import RunConfig
from lazyfs.core.oci.run_config import DEFAULT_PATH
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles
from lazyfs.images.profiles.interpreted_commands import program_positions
from lazyfs.images.profiles.interpreted_programs import InterpretedPrograms
from lazyfs.images.profiles.linked_libraries import LinkedLibraries

FILES: Final = 4096
"""The largest number of files of one guess; an analysis with 1,500 modules and 300 libraries is known."""
WHOLE: Final = 8 << 20
"""Size in bytes up to which a guess lists all objects of a file. A mount that misses a part of a library
fetches the rest too, so nothing is saved by leaving it out; of 25 libraries of 2 to 8 MB that gdalinfo loads
it reads 90%."""
DIRECT: Final = 32 << 20
"""Size in bytes up to which a guess lists all objects of a program, of an extension module, and of the
libraries that these name themselves: they are used more than those that come with other libraries."""
FIRST: Final = 2 << 20
"""The number of bytes listed at the beginning of a larger file. Beside them are listed the parts that the
dynamic linker writes to, because nobody knows which part of its code or data a program uses."""
LINE: Final = 256
"""The number of bytes, from the beginning of a file, in which the first line of a script is looked for."""
WORDS: Final = 64
"""The largest number of words of a command that are looked at."""
INTERPRETED: Final = 4
"""The largest number of programs of a command whose modules are followed."""


class _Call(NamedTuple):
    """A program of the image, and the words after it."""

    invoked: bytes
    """The path by which the program is started, links not followed."""
    program: ImageFile
    words: tuple[str, ...]


class StartGuess:
    """Guesses for one image."""

    def __init__(self, files: ImageFiles, run: RunConfig) -> None:
        self._files = files
        self._entrypoint = len(run.entrypoint or [])
        self._words = [*(run.entrypoint or []), *(run.cmd or [])][:WORDS]
        self._path = run.environment.get("PATH") or DEFAULT_PATH
        self._directory = run.working_dir or "/"
        self._libraries = LinkedLibraries(files)
        self._interpreted = InterpretedPrograms(files, run.environment, self._absolute(""))
        self._seen: dict[bytes, None] = {}
        self._waiting: deque[tuple[ImageFile, int]] = deque()
        """The files whose objects and needs are to be taken, each with the number of steps from a file that
        the command names."""
        self._calls: list[_Call] = []
        """The programs that may be interpreters, and what they are told to run."""
        self._found: dict[Digest, None] = {}

    def touched(self) -> dict[Digest, None]:
        """Returns the objects and small files that a start is guessed to read, in the order of the start.
        Raises NotFound, BadData or StoreError for an object that cannot be read."""
        for program in self._named():
            self._add(program)
        self._follow()
        for call in self._calls[:INTERPRETED]:
            for file in self._interpreted.files(call.invoked, call.program, call.words):
                self._take_module(file)
            for word in call.words:
                named = self._file(word)
                if named is not None:
                    self._take_module(named)
        return self._found

    def _follow(self) -> None:
        """Takes the files that wait, and those that they need in turn."""
        while self._waiting and len(self._seen) <= FILES:
            file, steps = self._waiting.popleft()
            self._found |= dict.fromkeys(self._objects(file, DIRECT if steps <= 1 else WHOLE))
            for needed in self._needed(file):
                self._add(needed, steps + 1)

    def _add(self, file: ImageFile | None, steps: int = 0) -> None:
        if file is not None and file.entry.is_file and file.path not in self._seen:
            self._seen[file.path] = None
            self._waiting.append((file, steps))

    def _take_module(self, file: ImageFile) -> None:
        """Takes a file that a program reads and does not run, such as a module; of a library, also the
        libraries that it needs."""
        if file.path in self._seen or len(self._seen) > FILES:
            return
        self._seen[file.path] = None
        self._found |= dict.fromkeys(self._objects(file, DIRECT))
        if b".so" in file.path.rpartition(b"/")[2]:
            for needed in self._libraries.needed(file):
                self._add(needed, 1)
            self._follow()

    def _named(self) -> Iterator[ImageFile | None]:
        """Yields the files that the words of the command name, and those that the script in a shell's `-c
        SCRIPT` names; None for a word that names no file. Notes the calls of interpreters, the words of which
        are left out."""
        words, command = self._words, self._entrypoint
        if len(words) >= 3 and words[1] == "-c" and not self._is_interpreter(words[0]):
            yield self._program(words[0])
            try:
                words = shlex.split(words[2])[:WORDS]
            except ValueError:  # quotes that only the shell understands
                return
            words, command = words[1:] if words[:1] == ["exec"] else words, 0
        positions = program_positions(words, command)
        for number, word in enumerate(words):
            if number in positions:
                yield self._program(word)
                if self._is_interpreter(word):
                    self._note_call(word, words[number + 1 :])
                    return
            else:
                yield self._file(word)

    def _is_interpreter(self, word: str) -> bool:
        program = self._program(word)
        return program is not None and self._interpreted.knows(program)

    def _note_call(self, word: str, words: Sequence[str]) -> None:
        path = self._program_path(word)
        program = self._files.find(path) if path else None
        if path and program is not None and self._interpreted.knows(program):
            self._calls.append(_Call(path, program, tuple(words)))

    def _program(self, word: str) -> ImageFile | None:
        path = self._program_path(word)
        return self._files.find(path) if path else None

    def _program_path(self, word: str) -> bytes | None:
        """Returns the path of the file that is started by a command's first word; None if there is none."""
        if "/" in word:
            return self._absolute(word) if self._file(word) is not None else None
        for directory in self._path.split(":"):
            file = self._file(f"{directory}/{word}") if directory else None
            if file is not None and file.entry.mode & 0o111:
                return self._absolute(f"{directory}/{word}")
        return None

    def _absolute(self, word: str) -> bytes:
        return posixpath.join("/", self._directory, word).encode(errors="surrogateescape")

    def _file(self, word: str) -> ImageFile | None:
        return self._files.file(self._absolute(word))

    def _needed(self, file: ImageFile) -> Iterator[ImageFile | None]:
        """Yields the files that a file needs to run, such as its interpreter and its libraries; None for one
        that is missing."""
        head = self._files.bytes_at(file, 0, LINE)
        if head.startswith(b"#!"):
            words = head[2:].partition(b"\n")[0].decode(errors="replace").split()
            script = "/" + file.path.decode(errors="surrogateescape")
            for number in sorted(program_positions(words, 0)):
                if number < len(words):
                    yield self._program(words[number])
                    self._note_call(words[number], [*words[number + 1 :], script])
        elif head.startswith(elf.MAGIC):
            yield from self._libraries.needed(file)

    def _objects(self, file: ImageFile, whole: int) -> Iterator[Digest]:
        """Yields those of a file's objects that a start is guessed to read; for a small file in a pack, the
        file's own digest. `whole`: size in bytes up to which these are all."""
        wanted = [(0, file.entry.size)]
        if file.entry.size > whole:
            linked = elf.linked_parts(lambda offset, length: self._files.bytes_at(file, offset, length))
            wanted = [(0, FIRST), *linked[1:]]
        at = 0
        for part in self._files.parts(file):
            if any(start < at + part.length and at < start + length for start, length in wanted):
                yield part.ref.digest
            at += part.length
