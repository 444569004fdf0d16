"""The modules that a Perl source loads, and the directories that a perl searches. Pure.

The source is a stranger's; the reader takes a time linear in its length and raises for no bytes. `use` and
`no` load modules wherever they stand; a `require` that does not begin its line may stand in a subroutine that
no start calls. The reader may err on text in here-documents, which is good enough for a guess.
"""

import re
from typing import Final, NamedTuple

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
    rb"(?:(?:^|[;{}])[ \t]*+(use|no)|(^|[;{}( \t])require)[ \t]++(?!v[0-9])([A-Za-z_]\w*+(?:(?:::|')\w++)*+)",
    re.MULTILINE,
)
_INHERITED: Final = re.compile(rb"[A-Za-z_]\w*+(?:::\w++)*+")
_PARENTS: Final = (b"parent", b"base")
_CHOSEN: Final = {b"File::Spec": b"File::Spec::Unix"}
"""Modules that one of Perl's own loads by a name that it puts together, on Linux."""
_DIRECTORY: Final = re.compile(rb"(?<=\0)/[!-~]{1,255}(?=\0)")


class Loaded(NamedTuple):
    """A module that a source loads."""

    name: bytes
    """The name as in the source, `A::B`."""
    sure: bool
    """False for a `require` that may stand in a subroutine."""


def loaded_modules(source: bytes) -> list[Loaded]:
    """Returns the modules that a source loads, in their order, each once."""
    text = _DOCUMENTATION.sub(b"", source[:SOURCE].replace(b"\r\n", b"\n"))
    end = _END.search(text)
    found: dict[bytes, bool] = {}
    for matched in _LOADED.finditer(text, 0, end.start() if end else len(text)):
        name, sure = matched[3], matched[2] is None or not matched[2]
        found[name] = found.get(name, False) or sure
        if name in _PARENTS:
            rest = text[matched.end() : matched.end() + STATEMENT].partition(b";")[0]
            words = _INHERITED.findall(rest.replace(b"-norequire", b""))
            found |= dict.fromkeys((word for word in words if word not in (b"qw", b"q", b"qq")), True)
        elif name in _CHOSEN:
            found.setdefault(_CHOSEN[name], sure)
        if len(found) >= MODULES:
            break
    return [Loaded(*one) for one in found.items()][:MODULES]


def module_path(name: bytes) -> bytes:
    """Returns the path of a module below a directory that is searched: `A/B.pm`."""
    return name.replace(b"'", b"::").replace(b"::", b"/") + b".pm"


def extension_path(name: bytes) -> bytes:
    """Returns the path of a module's compiled part below a directory that is searched: `auto/A/B/B.so`."""
    parts = name.replace(b"'", b"::").split(b"::")
    return b"/".join([b"auto", *parts, parts[-1] + b".so"])


def library_directories(program: bytes) -> list[bytes]:
    """Returns the absolute paths among the strings of a perl, or of its library, without a leading /: the
    directories of its modules (@INC) are among them. They are in the order in which perl searches: those of
    the site, of the distribution, and perl's own, and of each the compiled modules first."""
    listed = (one.strip(b"/") for one in _DIRECTORY.findall(program) if b"perl" in one)
    return sorted(list(dict.fromkeys(listed))[:LIBRARIES], key=_rank)


def _rank(directory: bytes) -> tuple[int, bool]:
    parts = directory.split(b"/")
    is_site = b"site_perl" in parts or (b"local" in parts and b"perl" in parts)
    order = (
        parts[0] == b"etc",
        is_site,
        b"vendor_perl" in parts,
        b"perl5" in parts,
        b"perl-base" in parts,
        True,
    )
    return order.index(True), b"share" in parts
