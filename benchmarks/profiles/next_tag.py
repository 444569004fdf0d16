"""The next tag of an image: packages are upgraded, and some of their files move."""

import os
import random
import shutil
from pathlib import Path
from typing import Final

from benchmarks.startup.images import TAG, umoci

NEXT: Final = "v2"
CHANGED: Final = 0.2
"""The share of the touched files whose content changes."""
MOVED: Final = 10
"""The number of libraries that get a new version in their name."""
_PADDED: Final = (".so", ".pyc")
"""Ends of the names of files that work as before with more bytes at their end: the dynamic linker and Python
read only what the file's own headers describe."""


def make(layout: Path, touched: list[str], work: Path) -> Path:
    """Returns a copy of the layout with a further layer, whose image has the tag NEXT: a fifth of the
    `touched` files has another content, and others another path. `touched`: paths in the image, links
    followed."""
    copy, bundle = work / "next", work / "bundle"
    shutil.copytree(layout, copy)
    umoci("unpack", "--image", f"{copy}:{TAG}", str(bundle))
    root = bundle / "rootfs"
    changed = upgraded(touched)
    for path in changed:
        _pad(root / path)
    others = [path for path in touched if path not in changed and ".so." in path]
    for path in random.Random(7).sample(others, min(MOVED, len(others))):
        _rename(root / path)
    umoci("repack", "--image", f"{copy}:{NEXT}", str(bundle))
    shutil.rmtree(bundle)
    return copy


def upgraded(touched: list[str]) -> list[str]:
    """Returns the touched files that get another content: as many as CHANGED says, and one directory after
    the other, as an upgrade changes the files of some packages."""
    directories: dict[str, list[str]] = {}
    for path in touched:
        if path.endswith(_PADDED) or ".so." in path:
            directories.setdefault(os.path.dirname(path), []).append(path)
    order = random.Random(7).sample(sorted(directories), len(directories))
    files = [path for directory in order for path in sorted(directories[directory])]
    return files[: round(CHANGED * len(touched))]


def _pad(file: Path) -> None:
    times = file.stat()
    with file.open("ab") as opened:
        opened.write(b"\0" * 64)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def _rename(library: Path) -> None:
    """Gives a library another version. The links to it in its directory follow."""
    moved = library.with_name(library.name + ".1")
    links = [link for link in library.parent.iterdir() if link.is_symlink()]
    pointing = [link for link in links if os.readlink(link) == library.name]
    if not pointing:
        return  # it is found by its own name
    library.rename(moved)
    for link in pointing:
        link.unlink()
        link.symlink_to(moved.name)
