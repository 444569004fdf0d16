"""The directories of an image in which one of its Python interpreters looks for modules."""

import posixpath
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from lazyfs.core.python_imports import Import, line_imports
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles

PYTHON: Final = re.compile(rb"python(3\.[0-9]{1,3})t?")
"""The name of a Python interpreter, links followed."""
PATH_FILES: Final = 64
"""The largest number of `.pth` files that are read in one directory."""
PATH_BYTES: Final = 64 << 10
DIRECTORIES: Final = 64
"""The largest number of directories in which modules are looked for."""


class PythonPlaces(NamedTuple):
    """A Python interpreter of an image, and the places of its modules. Paths are bytes, and may hold `..`."""

    minor: int
    """The y of version 3.y."""
    standard: tuple[bytes, ...]
    """Directories of PYTHONPATH, and of the standard library."""
    site: tuple[bytes, ...]
    """Directories of installed packages, those that `.pth` files add included."""
    path_files: tuple[ImageFile, ...]
    """The `.pth` files, which every start reads."""
    imports: tuple[Import, ...]
    """What the lines of code in these files import."""

    @property
    def directories(self) -> tuple[bytes, ...]:
        return (self.standard + self.site)[:DIRECTORIES]


def python_places(
    files: ImageFiles, interpreter: ImageFile, invoked: bytes, environment: Mapping[str, str], cwd: bytes
) -> PythonPlaces | None:
    """Returns the places of an interpreter's modules; None for a program that is no Python 3.

    `invoked`: the path by which it is started, links not followed, which tells a virtual environment. `cwd`:
    the directory in which it is started.
    """
    directory, _, name = interpreter.path.rpartition(b"/")
    matched = PYTHON.fullmatch(name)
    if matched is None:
        return None
    version = matched[1]
    home, alone = directory, False
    environments = [b"%b/.." % invoked.rpartition(b"/")[0]]
    settings = _settings(files.text(environments[0] + b"/pyvenv.cfg", PATH_BYTES))
    if b"home" in settings:
        home = settings[b"home"]
        alone = settings.get(b"include-system-site-packages") != b"true"
    else:
        environments = []
    library = b"%b/../lib/python%b" % (home, version)
    listed = [environment.get("PYTHONPATH", "").encode(errors="surrogateescape").split(b":")]
    standard = [posixpath.join(cwd, one) for one in listed[0] if one]
    standard += [library, library + b"/lib-dynload"]
    sites = [b"%b/lib/python%b/site-packages" % (one, version) for one in environments]
    if not alone:
        sites += [
            library + b"/site-packages",
            b"%b/../local/lib/python%b/dist-packages" % (home, version),
            b"%b/../lib/python3/dist-packages" % home,
            library + b"/dist-packages",
        ]
    added = _Added({}, [], [])
    for site in sites:
        here = files.find(site)
        if here is not None and here.entry.is_dir:
            added.directories[here.path] = None
            _read_path_files(files, here.path, added)
    site_directories, path_files, imports = added
    minor = int(version[2:])
    return PythonPlaces(minor, tuple(standard), tuple(site_directories), tuple(path_files), tuple(imports))


class _Added(NamedTuple):
    """What the directories of installed packages and their `.pth` files add to a start."""

    directories: dict[bytes, None]
    path_files: list[ImageFile]
    imports: list[Import]


def _read_path_files(files: ImageFiles, site: bytes, added: _Added) -> None:
    """Reads the `.pth` files of a directory: each line is a directory, or code that imports something."""
    names = sorted(one for one in files.names(site) if one.endswith(b".pth"))
    for name in names[:PATH_FILES]:
        file = files.file(site + b"/" + name)
        if file is None:
            continue
        added.path_files.append(file)
        for line in files.bytes_at(file, 0, PATH_BYTES).splitlines()[:DIRECTORIES]:
            if line.startswith((b"import ", b"import\t")):
                added.imports.extend(line_imports(line))
            elif line.strip() and not line.startswith(b"#"):
                found = files.find(posixpath.join(site, line.strip()))
                if found is not None and found.entry.is_dir:
                    added.directories[found.path] = None


def _settings(text: bytes) -> dict[bytes, bytes]:
    """Returns the settings of a pyvenv.cfg."""
    pairs = (line.partition(b"=") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, separator, value in pairs if separator}
