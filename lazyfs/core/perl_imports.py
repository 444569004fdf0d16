"""The modules that a Perl source loads when it is compiled, and the directories that a perl searches. Pure.

The source is a stranger's; the reader takes a time linear in its length and raises for no bytes. It knows
`use` and `no`, which run wherever they stand, and `require` at the beginning of a line, which is outside of
subroutines. It may err on text in here-documents, which is good enough for a guess.
"""

import re
from typing import Final

SOURCE: Final = 1 << 20
"""The largest number of bytes of one source that are read."""
MODULES: Final = 1024
"""The largest number of modules that are taken from one source."""
STATEMENT: Final = 2048
"""The largest number of bytes of one statement that are read."""
LIBRARIES: Final = 64
"""The largest number of directories that are taken from one perl."""

_DOCUMENTATION: Final = re.compile(rb"^=[A-Za-z].*?(?:^=cut\b[^\n]*+|\Z)", re.MULTILINE | re.DOTALL)
_END: Final = re.compile(rb"^__(?:END|DATA)__\b", re.MULTILINE)
_LOADED: Final = re.compile(
    rb"(?:(?:^|[;{}])[ \t]*+(?:use|no)|^require|^eval[ \t]*+\{[ \t]*+require)[ \t]++"
    rb"(?!v[0-9])([A-Za-z_]\w*+(?:(?:::|')\w++)*+)",
    re.MULTILINE,
)
_INHERITED: Final = re.compile(rb"[A-Za-z_]\w*+(?:::\w++)*+")
_PARENTS: Final = (b"parent", b"base")
_DIRECTORY: Final = re.compile(rb"(?<=\0)/[!-~]{1,255}(?=\0)")


def used_modules(source: bytes) -> list[bytes]:
    """Returns the names (`A::B`) of the modules that a source loads, in their order, each once."""
    text = _DOCUMENTATION.sub(b"", source[:SOURCE].replace(b"\r\n", b"\n"))
    end = _END.search(text)
    found: dict[bytes, None] = {}
    for matched in _LOADED.finditer(text, 0, end.start() if end else len(text)):
        found[matched[1]] = None
        if matched[1] in _PARENTS:
            rest = text[matched.end() : matched.end() + STATEMENT].partition(b";")[0]
            words = _INHERITED.findall(rest.replace(b"-norequire", b""))
            found |= dict.fromkeys(word for word in words if word not in (b"qw", b"q", b"qq"))
        if len(found) >= MODULES:
            break
    return list(found)[:MODULES]


def module_path(name: bytes) -> bytes:
    """Returns the path of a module below a directory that is searched: `A/B.pm`."""
    return name.replace(b"'", b"::").replace(b"::", b"/") + b".pm"


def extension_path(name: bytes) -> bytes:
    """Returns the path of a module's compiled part below a directory that is searched: `auto/A/B/B.so`."""
    parts = name.replace(b"'", b"::").split(b"::")
    return b"/".join([b"auto", *parts, parts[-1] + b".so"])


def library_directories(program: bytes) -> list[bytes]:
    """Returns the absolute paths among the strings of a perl, or of its library: those of its modules'
    directories (@INC) are among them. Without a leading /."""
    listed = (one.strip(b"/") for one in _DIRECTORY.findall(program) if b"perl" in one)
    return list(dict.fromkeys(listed))[:LIBRARIES]
