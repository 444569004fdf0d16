"""The files of this machine's Python, which an image of it must hold at the same paths."""

import functools
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator

from lazyfs.core.errors import UsageError
from lazyfs.system.own_python import PYTHON

_LEFT_OUT = re.compile(r"^(site-packages|dist-packages|test|config-.*|__pycache__)$")
"""Parts of the standard library that are left out: official Python images lack them too, and packages have a
layer of their own."""

PACKAGES = "/opt/demo/packages"
"""The place of installed packages in the image. At their own path a runtime may mount another directory, such
as a /tmp that hides a checkout there."""

_LIBRARY = re.compile(r"^\s+(?:\S+ => )?(/.*) \(0x[0-9a-f]+\)$", re.MULTILINE)


def with_links(path: str) -> Iterator[str]:
    """Yields every link on the way to `path`, and at last the file itself. For /lib/x these are /lib and
    /usr/lib/x, if /lib is a link to /usr/lib."""
    pending = [part for part in reversed(path.split("/")) if part]
    found = "/"
    while pending:
        candidate = os.path.normpath(os.path.join(found, pending.pop()))
        if os.path.islink(candidate):
            yield candidate
            target = os.readlink(candidate)
            found = "/" if target.startswith("/") else found
            pending.extend(part for part in reversed(target.split("/")) if part)
        else:
            found = candidate
    yield found


def tree(top: str, left_out: re.Pattern[str] | None = None) -> Iterator[str]:
    """Yields all readable files below `top`, except those in directories whose name matches `left_out`."""
    top = list(with_links(top))[-1]
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if left_out is None or not left_out.match(name)]
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        for name in files + links:
            path = os.path.join(directory, name)
            if os.path.islink(path) or (os.path.isfile(path) and os.access(path, os.R_OK)):
                yield path


def libraries(binaries: Iterable[str]) -> set[str]:
    """Returns the shared libraries that the binaries are linked with, including the dynamic loader, and the
    links to these files. Raises UsageError."""
    try:
        listed = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise UsageError("ldd is not on PATH; install libc-bin") from None
    return {link for path in _LIBRARY.findall(listed) for link in with_links(path)}


def interpreter() -> str:
    """Returns the path of this program's Python, outside any virtual environment."""
    return os.path.realpath(PYTHON[0])


def path_in_image(path: str) -> str:
    """Returns the path that a file of this machine has in the image: below PACKAGES for a file of a package,
    otherwise the same path."""
    inside = path.removeprefix(_packages())
    return path if inside == path else f"{PACKAGES}/{inside}"


@functools.cache
def _packages() -> str:
    return list(with_links(sysconfig.get_path("purelib")))[-1] + "/"


def layers() -> list[tuple[str, set[str]]]:
    """Returns (description, paths of this machine) of each layer, the lowest first; a path is in one layer
    only."""
    standard = set(with_links(sysconfig.get_path("stdlib"))) | set(
        tree(sysconfig.get_path("stdlib"), _LEFT_OUT)
    )
    packages = set(tree(sysconfig.get_path("purelib"), re.compile("^__pycache__$")))
    binaries = [interpreter(), *sorted(p for p in standard | packages if ".so" in os.path.basename(p))]
    base = {*with_links(interpreter()), *libraries(binaries)}
    if os.path.exists("/etc/ld.so.cache"):
        base.add("/etc/ld.so.cache")
    zone = set(tree("/usr/share/zoneinfo")) if os.path.isdir("/usr/share/zoneinfo") else set()
    named = [
        ("the interpreter and its shared libraries", base | zone),
        ("its standard library", standard),
        ("installed packages", packages),
    ]
    seen: set[str] = set()
    result = []
    for what, paths in named:
        result.append(
            (what, {path for path in paths - seen if not os.path.isdir(path) or os.path.islink(path)})
        )
        seen |= paths
    return result
