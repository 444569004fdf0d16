"""The paths at which ld.so looks for a library inside an image. Pure; paths are bytes without a leading /.

ld.so(8): DT_RUNPATH, or DT_RPATH if there is no DT_RUNPATH; then /etc/ld.so.cache, which ldconfig builds from
the directories in /etc/ld.so.conf and of the default directories; then the default directories.
LD_LIBRARY_PATH is not known here.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from lazyfs.core.elf import Dynamic

DIRECTORIES: Final = 64
"""The largest number of directories that are taken from one list."""
LINES: Final = 1024
"""The largest number of lines of ld.so.conf, or of a file that it includes, that are read."""
CONF: Final = b"etc/ld.so.conf"

DEFAULT_64: Final = (
    b"lib/x86_64-linux-gnu",
    b"usr/lib/x86_64-linux-gnu",
    b"lib/aarch64-linux-gnu",
    b"usr/lib/aarch64-linux-gnu",
    b"lib64",
    b"usr/lib64",
    b"lib",
    b"usr/lib",
)
"""Directories that distributions build into ld.so: the multiarch ones of Debian and Ubuntu, then those of
other distributions."""
DEFAULT_32: Final = (b"lib/i386-linux-gnu", b"usr/lib/i386-linux-gnu", b"lib", b"usr/lib")


class Conf(NamedTuple):
    """The content of ld.so.conf, or of a file that it includes."""

    directories: tuple[bytes, ...]
    included: tuple[bytes, ...]
    """Patterns of files, as paths without a leading /; a pattern has `*` and `?` in its last component."""


def parse_conf(text: bytes) -> Conf:
    """Returns the directories and the included patterns of ld.so.conf. Directories that are no absolute path
    are passed over."""
    directories: list[bytes] = []
    included: list[bytes] = []
    for line in text.split(b"\n", LINES)[:LINES]:
        words = line.partition(b"#")[0].split()
        if words[:1] == [b"include"]:
            included += (word if word.startswith(b"/") else b"/etc/" + word for word in words[1:])
        elif words and words[0] != b"hwcap":
            directories += (word.partition(b"=")[0] for word in words)
    return Conf(_absolute(directories), _absolute(included))


def places(name: bytes, file: Dynamic, directory: bytes, conf: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yields the paths at which ld.so looks for the library `name`, in order.

    `directory`: the directory of the file that needs it ($ORIGIN). `conf`: the directories of ld.so.conf. A
    path may hold `..`, which is resolved as the kernel does, after links.
    """
    if b"/" in name:
        if name.startswith(b"/"):
            yield name.strip(b"/")
        return
    lists = [_expanded(file.rpath or file.runpath, directory), conf, DEFAULT_64 if file.is_64 else DEFAULT_32]
    for one in lists:
        for place in one:
            yield place + b"/" + name if place else name


def _expanded(listed: bytes, directory: bytes) -> tuple[bytes, ...]:
    """Returns the directories of DT_RPATH or DT_RUNPATH. Relative ones, and those with $LIB or $PLATFORM, are
    left out."""
    found = []
    for one in listed.split(b":", DIRECTORIES)[:DIRECTORIES]:
        for origin in (b"$ORIGIN", b"${ORIGIN}"):
            if one == origin or one.startswith(origin + b"/"):
                one = b"/" + directory + one.removeprefix(origin)
        found.append(one)
    return _absolute(found)


def _absolute(paths: list[bytes]) -> tuple[bytes, ...]:
    kept = (path.strip(b"/") for path in paths if path.startswith(b"/") and b"$" not in path)
    return tuple(dict.fromkeys(kept))[:DIRECTORIES]
