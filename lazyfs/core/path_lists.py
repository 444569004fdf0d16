"""Lists of the paths that a program opens: one path a line, or the JSON of a CVMFS file bundle. Pure.

The file bundle `.cvmfsbundle-FILE` lies beside FILE, and lists what is needed when FILE is opened. It is a
JSON object with `name` (`CVMFS_BUNDLE`), `version`, `encoding` and `dependencies`. Dependencies with a
leading / are paths from the repository's root; others are relative to the list's directory.
"""

from typing import Final

import msgspec

from lazyfs.core import bounds
from lazyfs.core.errors import FormatError

PREFIX: Final = b".cvmfsbundle-"
"""The beginning of the name of a CVMFS file bundle; the name of the file that it belongs to follows."""
MOST: Final = bounds.HOT_FILES
"""The largest number of paths in one list: as many as a profile may have small files."""
PATH_MAX: Final = 4096
NAME: Final = "CVMFS_BUNDLE"
MAJOR: Final = "1"


class _FileBundle(msgspec.Struct):
    name: str
    version: str
    dependencies: list[str]
    encoding: str = "UTF-8"


_decoder = msgspec.json.Decoder(_FileBundle)


def parse_list(text: bytes, directory: bytes = b"") -> list[bytes]:
    """Returns the paths of a list, absolute but without the leading /, each once.

    `directory`: the directory of the list, for relative paths. Raises FormatError.
    """
    lines = _dependencies(text) if text.lstrip().startswith(b"{") else text.split(b"\n")
    paths = dict.fromkeys(_absolute(line.rstrip(b"\r"), directory) for line in lines if line.strip())
    if len(paths) > MOST:
        raise FormatError(f"{len(paths)} paths, over {MOST}")
    return list(paths)


def _dependencies(text: bytes) -> list[bytes]:
    try:
        found = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FormatError(f"no CVMFS file bundle: {error}") from None
    if found.name != NAME or found.version.partition(".")[0] != MAJOR:
        raise FormatError(
            f"a list named {found.name!r} of version {found.version!r}, not {NAME} of version {MAJOR}"
        )
    if found.encoding.upper() != "UTF-8":
        raise FormatError(f"a CVMFS file bundle with the encoding {found.encoding!r}, not UTF-8")
    try:
        return [path.encode() for path in found.dependencies]
    except UnicodeEncodeError:  # JSON can name halves of characters
        raise FormatError("a CVMFS file bundle with a path that is not UTF-8") from None


def _absolute(path: bytes, directory: bytes) -> bytes:
    if b"\0" in path or len(path) > PATH_MAX:
        raise FormatError(f"{path[:80]!r} is no path")
    whole = path if path.startswith(b"/") else directory + b"/" + path
    return b"/".join(part for part in whole.split(b"/") if part not in (b"", b"."))
