"""The files that Python and Perl read when they run what a command gives them."""

import posixpath
from collections.abc import Iterator, Mapping, Sequence

from lazyfs.core.python_imports import SOURCE
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles
from lazyfs.images.profiles.interpreted_commands import perl_command, python_command
from lazyfs.images.profiles.linked_libraries import LinkedLibraries
from lazyfs.images.profiles.locales import locale_files
from lazyfs.images.profiles.perl_modules import LIBRARY, PERL, PerlModules
from lazyfs.images.profiles.python_modules import PythonModules
from lazyfs.images.profiles.python_places import PYTHON, python_places


class InterpretedPrograms:
    """The interpreted programs of one image."""

    def __init__(self, files: ImageFiles, environment: Mapping[str, str], directory: bytes) -> None:
        """`environment`: the variables of the image. `directory`: the current directory of its programs."""
        self._files = files
        self._environment = environment
        self._directory = directory
        self._libraries = LinkedLibraries(files)

    def knows(self, program: ImageFile) -> bool:
        """Returns True for an interpreter whose programs' modules can be found."""
        name = program.path.rpartition(b"/")[2]
        return bool(PYTHON.fullmatch(name) or PERL.fullmatch(name))

    def files(self, invoked: bytes, program: ImageFile, words: Sequence[str]) -> Iterator[ImageFile]:
        """Yields the modules, and the script itself, that an interpreter reads. `invoked`: the path by which
        it is started, links not followed. `words`: what follows it in the command."""
        if PYTHON.fullmatch(program.path.rpartition(b"/")[2]):
            yield from self._python(invoked, program, words)
        else:
            yield from self._perl(program, words)

    def _python(self, invoked: bytes, program: ImageFile, words: Sequence[str]) -> Iterator[ImageFile]:
        places = python_places(self._files, program, invoked, self._environment, self._directory)
        if places is None:
            return
        told = python_command(words)
        script = self._script(told.script)
        first = script.path.rpartition(b"/")[0] if script else None
        modules = PythonModules(self._files, places, self._directory if told.module or told.code else first)
        yield from locale_files(self._files, self._environment, whole=False)
        yield from modules.start()
        yield from places.path_files
        if script is not None:
            yield script
            yield from modules.script(self._files.bytes_at(script, 0, SOURCE))
        elif told.module:
            yield from modules.module(told.module.encode(errors="surrogateescape"))
        elif told.code:
            yield from modules.script(told.code.encode(errors="surrogateescape"))

    def _perl(self, program: ImageFile, words: Sequence[str]) -> Iterator[ImageFile]:
        told = perl_command(words)
        needed = self._libraries.needed(program)
        library = [one for one in needed if one and LIBRARY.fullmatch(one.path.rpartition(b"/")[2])]
        listed = [*told.directories, *self._environment.get("PERL5LIB", "").split(":")]
        first = [self._path(one) for one in listed if one]
        modules = PerlModules(self._files, [program, *library], first)
        yield from locale_files(self._files, self._environment, whole=True)
        script = self._script(told.script)
        source = told.code.encode(errors="surrogateescape")
        if script is not None:
            yield script
            source = self._files.bytes_at(script, 0, SOURCE)
        named = [name.encode(errors="surrogateescape") for name in told.modules]
        yield from modules.script(source, named)

    def _script(self, word: str) -> ImageFile | None:
        return self._files.file(self._path(word)) if word else None

    def _path(self, word: str) -> bytes:
        return posixpath.join(self._directory, word.encode(errors="surrogateescape"))
