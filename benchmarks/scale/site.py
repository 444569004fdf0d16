"""Makes a repository of many images, with the publisher's own code for catalogs, store and signatures.

Images come in families. All images of a family share the directory /usr, as the tags of one image do, and
each image has a few files of its own. Files have no content, because the benchmark measures only metadata.
"""

import stat
from datetime import UTC, datetime

from lazyfs.core import codec
from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.inode import Inode, Nested
from lazyfs.core.digest import ObjectRef, sha256
from lazyfs.repository import keys, lifecycle
from lazyfs.repository.commit import commit_revision, read_revision
from lazyfs.store import open_store

FAMILY = 100
"""The number of images that share a /usr."""
FILES = 1000
"""The number of files in each image."""
OWN = 5
REGISTRY = b"registry.example.org"


def make(store: str, keys_directory: str, images: int, family: int = FAMILY, large: int = 0) -> Nested:
    """Makes a repository of `images` images with about `images` * FILES files; returns its root catalog.

    `family` is the number of images that share a /usr. Every `large`-th file of a /usr has a size of 100 KB
    in its catalog entry; if `large` is 0, none has.
    """
    lifecycle.init(store, "scale.example.org", datetime.now(UTC), keys=keys_directory)
    directory = open_store(store)

    def emit(ref: ObjectRef, plain: bytes) -> None:
        directory.put(ref.digest, codec.encode(plain))

    flat: dict[bytes, Inode] = {}
    tags = _folder()
    usr: Nested | None = None
    for number in range(images):
        if number % family == 0:
            usr = build(_usr(number // family, large), 1 << 30, emit)
        assert usr is not None
        image = build(_image(number, usr), 1 << 30, emit)
        name = sha256(b"%d" % number).hex().encode()
        shelf = flat.setdefault(name[:2], _folder())
        _put(shelf, name, _hang(image))
        target = b"../.flat/" + name[:2] + b"/" + name
        _put(tags, b"image-%05d:1" % number, Inode(stat.S_IFLNK | 0o777, size=len(target), content=target))
    shelves = _folder()
    for name, shelf in flat.items():
        _put(shelves, name, _hang(build(shelf, 1 << 30, emit, live=True)))
    root = _folder()
    _put(root, b".flat", _hang(build(shelves, 1 << 30, emit, live=True)))
    _put(root, REGISTRY, _hang(build(tags, 1 << 30, emit, live=True)))
    made = build(root, 1 << 30, emit, live=True)
    before = read_revision(directory).number
    signers = keys.load(keys_directory)
    commit_revision(directory, signers, made.ref, expected_revision=before, now=datetime.now(UTC))
    return made


def _folder() -> Inode:
    return Inode(stat.S_IFDIR | 0o755)


def _put(folder: Inode, name: bytes, inode: Inode) -> None:
    assert folder.children is not None
    folder.children[name] = inode


def _hang(nested: Nested) -> Inode:
    return Inode(stat.S_IFDIR | 0o755, nested=nested)


def _file(text: bytes, size: int = 0) -> Inode:
    return Inode(stat.S_IFREG | 0o644, size=size or len(text), content=sha256(text))


def _usr(family: int, large: int) -> Inode:
    usr = _folder()
    count = FILES - OWN
    for start in range(0, count, 50):
        package = _folder()
        for number in range(start, min(start + 50, count)):
            size = 100_000 if large and number % large == 0 else 0
            _put(package, b"module_%03d.py" % number, _file(b"%d/%d" % (family, number), size))
        _put(usr, b"package_%02d" % (start // 50), package)
    return usr


def _image(number: int, usr: Nested) -> Inode:
    image = _folder()
    _put(image, b"usr", _hang(usr))
    etc = _folder()
    for own in range(OWN):
        _put(etc, b"own_%d" % own, _file(b"own %d %d" % (number, own)))
    _put(image, b"etc", etc)
    return image
