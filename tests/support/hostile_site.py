"""A site mount of two repositories: an honest one, and a hostile one whose contents are nonsense, but
properly signed."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lazyfs.core import bounds
from lazyfs.core.catalog.entry import LIVE, NESTED
from lazyfs.core.catalog.inode import Nested
from lazyfs.core.catalog.layout import Totals
from lazyfs.core.digest import ObjectRef, ref_of
from tests.support import hostile_catalogs as hostile
from tests.support.cli import lazyfs, status
from tests.support.images import Objects, image
from tests.support.images import live as right_live
from tests.support.repository import Published

CHUNK = 16 << 20


class Site:
    """The mount, and views of its daemon's state for assertions."""

    def __init__(self, mnt: Path, log: Path, cache: Path) -> None:
        self.mnt = mnt
        self.log = log
        self.cache = cache
        self.pid: int = status(mnt)["pid"]

    def status(self) -> Any:
        return status(self.mnt)

    def memory(self, field: str = "VmRSS") -> int:
        """Returns the daemon's memory in bytes: now, or for `VmHWM` its peak since `forget_peak`."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) << 10
        raise AssertionError(f"no {field}: the daemon is gone")

    def cached(self) -> set[str]:
        """Returns the keys of the objects in the cache."""
        listed = lazyfs("cache", "--cache", self.cache, "list", "--json").stdout
        return {json.loads(line)["object"] for line in listed.splitlines()}

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def honest(self) -> dict[str, tuple[object, ...]]:
        """Reads the whole honest repository. Returns path -> (inode number, mode, owner, size, link count,
        content)."""
        found: dict[str, tuple[object, ...]] = {}
        for directory, directories, files in os.walk(self.mnt / "honest"):
            for name in directories + files:
                path = os.path.join(directory, name)
                one = os.lstat(path)
                content = Path(path).read_bytes() if stat.S_ISREG(one.st_mode) else b""
                found[path] = (one.st_ino, one.st_mode, one.st_uid, one.st_size, one.st_nlink, content)
        return found


@contextmanager
def mounted(
    directory: Path, session: str, honest: Published, other: Published, *options: str, url: str = ""
) -> Iterator[Site]:
    """Mounts both repositories below `directory/mnt`. `url` is the address of the hostile store if it is read
    over HTTP."""
    mnt = directory / "mnt"
    mnt.mkdir()
    lines = []
    for name, published, place in (
        ("honest", honest, str(honest.store)),
        ("hostile", other, url or str(other.store)),
    ):
        lines += [f"[repositories.{name}]", f'url = "{place}"']
        lines += [f'trust = "{published.store}/metadata/1.root.json"']
    (directory / "site.toml").write_text("\n".join(lines))
    log, cache = directory / "log", directory / "cache"
    arguments = ["--config", str(directory / "site.toml"), "--cache", str(cache), "--log", str(log)]
    lazyfs("mount", mnt, *arguments, "--fuse", session, "--patience", "10", *options)
    try:
        yield Site(mnt, log, cache)
    finally:
        lazyfs("umount", mnt)


def honest_repository(directory: Path) -> Published:
    """Publishes an image with private files, hardlinks and files that are cut into chunks."""
    made = Published(directory, "honest.example.org")
    files = {f"f{number}": b"%d" % number * 1000 for number in range(50)}
    spec = {"bin": files, "large": bytes(range(256)) * 2000, "lib": {"deep": {"er": files}}}
    made.commit(right_live(made.objects, {"lab": {"a:1": image(made.objects, spec)}}))
    return made


def hostile_repository(directory: Path, step: int) -> Published:
    """Publishes every `step`-th change of a field, all hostile chunk lists and profiles, and the large
    catalogs."""
    made = Published(directory, "hostile.example.org")
    objects = made.objects
    right = hostile.draft(objects)
    folders: dict[bytes, dict[bytes, ObjectRef]] = {
        b"changed": {},
        b"lists": {},
        b"large": dict(large(objects)),
    }
    for number, change in enumerate(hostile.changes(right)):
        catalog = hostile.with_changes(right, [change]) if number % step == 0 else None
        if catalog is not None and len(catalog) <= bounds.OBJECT:
            folders[b"changed"][b"%06d" % number] = put(objects, catalog)
    for number, (listed, size, shift) in enumerate(hostile.hostile_lists(objects)):
        one = hostile.draft(objects)
        one.directories[0][0][5:8] = [size, objects.put(listed), shift]
        folders[b"lists"][b"%06d" % number] = put(objects, one.encode())
    top = {name: put(objects, hostile.live(images)) for name, images in folders.items()}
    top[b"profiles"] = put(objects, _profiles(objects, put(objects, right.encode())))
    made.commit(Nested(put(objects, _live_folders(top)), live=True, nlink=2, totals=Totals()))
    return made


def put(objects: Objects, plain: bytes) -> ObjectRef:
    objects.put(plain)
    return ref_of(plain)


def _live_folders(folders: dict[bytes, ObjectRef]) -> bytes:
    made = hostile.live_draft(folders)
    for one in made.directories[0]:
        one[hostile.FLAGS] = NESTED | LIVE
    return made.encode()


def _profiles(objects: Objects, tree: ObjectRef) -> bytes:
    made = hostile.live_draft({})
    entries = [hostile.hinting(tree, put(objects, plain)) for plain in hostile.hostile_profiles() if plain]
    made.directories[0] = sorted({one[0]: one for one in entries}.values(), key=lambda one: one[0])
    return made.encode()


def large(objects: Objects) -> Iterator[tuple[bytes, ObjectRef]]:
    """Yields (name, catalog) of catalogs at the bounds: many entries, large attributes, 40 levels that each
    name the next one twice, 3,000 more levels, and large files of zeros."""
    for number in range(2):
        root = hostile.entry(b"", stat.S_IFDIR | 0o755, size=4096)
        made = hostile.Draft([root, False, [0, 0, 0], [], []], [[]])
        names = (b"%06d %d" % (one, number) for one in range(bounds.ENTRIES))
        made.directories[0] = [hostile.entry(name, stat.S_IFREG | 0o644, mtime=1 << 40) for name in names]
        yield b"wide%d" % number, put(objects, made.encode())
    attributes = [[b"user.%04d" % number, bytes(60_000)] for number in range(200)]
    made = hostile.draft(objects)
    made.directories[0][9][hostile.XATTRS] = attributes
    yield b"attributes", put(objects, made.encode())
    here = put(objects, hostile.draft(objects).encode())
    for _ in range(40):
        here = hung(objects, {b"left": here, b"right": here})
    yield b"twice", here
    for _ in range(3000):
        here = hung(objects, {b"d" * 200: here})
    yield b"deep", here
    zeros = objects.put(bytes(CHUNK))
    made = hostile.draft(objects)
    listed = hostile.chunk_list([zeros] * 64, 24)
    made.directories[0][0][5:8] = [64 * CHUNK, objects.put(listed), 24]
    made.directories[0][9][5:8] = [CHUNK, zeros, 0]
    yield b"bombs", put(objects, made.encode())


def hung(objects: Objects, names: dict[bytes, ObjectRef]) -> ObjectRef:
    """Stores the catalog of a snapshot that consists of these nested catalogs; returns its reference."""
    made = hostile.live_draft(names)
    made.header[1] = False
    return put(objects, made.encode())


def attack(top: Path, most: int = 1 << 30) -> int:
    """Stats, lists and reads the paths below `top`, and reads their extended attributes. Stops after `most`
    answered calls; returns the number of answered calls."""
    answered = 0
    waiting = [os.fsencode(top)]
    while waiting and answered < most:
        path = waiting.pop()
        answered += _ask(path)
        try:
            with os.scandir(path) as entries:
                waiting += [entry.path for entry in entries]
        except OSError:
            continue
    return answered


def _ask(path: bytes) -> int:
    answered = 0
    try:
        mode = os.lstat(path).st_mode
        answered += 1
        for name in os.listxattr(path, follow_symlinks=False):
            os.getxattr(path, name, follow_symlinks=False)
        if stat.S_ISLNK(mode):
            os.readlink(path)
        if not stat.S_ISREG(mode):
            return answered
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return answered
    try:
        size = os.fstat(descriptor).st_size
        for offset in (0, 1 << 16, max(size - 100, 0)):
            try:
                os.pread(descriptor, 1 << 17, offset)
                answered += 1
            except OSError:
                continue
    finally:
        os.close(descriptor)
    return answered
