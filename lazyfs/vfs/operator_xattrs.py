"""Extended attributes for operators, which state where a file comes from, as those of CVMFS do; and an
attribute by which `lazyfs run` says which program it is about to start.

They can be asked for by name but are not listed, because tools that copy files would copy them too.
"""

import os

from lazyfs.core.chunks import MAX_SHIFT, chunk_count
from lazyfs.vfs.missing_objects import NOTHING, Fetched
from lazyfs.vfs.shared_files import PATH as SHARED
from lazyfs.vfs.tree import Tree

START = b"user.lazyfs.start."
"""The prefix of the attributes by which `lazyfs run` says which program it is about to start. When an image's
root directory is asked for `user.lazyfs.start.PROGRAM`, the mount fetches what PROGRAM reads; no file has the
attribute. Everybody who can enter an image may ask: the question only chooses among lists that the repository
has signed."""


def get_xattr(tree: Tree, number: int, name: bytes, fetched: Fetched = NOTHING) -> bytes | None:
    """Returns an extended attribute that the file has in the image, or one for operators; None if neither
    exists."""
    if name == b"user.pid":  # before anything that may have to be fetched: it tells whether the daemon lives
        return str(os.getpid()).encode()
    if name.startswith(START):
        tree.announce(number, name.removeprefix(START).decode(errors="replace"))
        return None
    found = tree.xattrs(number, fetched).get(name)
    if found is not None or not name.startswith(b"user."):
        return found
    return _operator(tree, number, name, fetched)


def list_xattrs(tree: Tree, number: int, fetched: Fetched = NOTHING) -> list[bytes]:
    """Returns the names of the extended attributes that a file has in the image."""
    return sorted(tree.xattrs(number, fetched))


def _operator(tree: Tree, number: int, name: bytes, fetched: Fetched) -> bytes | None:
    slot, _ = tree.slot(number)
    repository = tree.repositories.get(slot.repository)
    if repository is None:
        return None
    if name == b"user.repository":
        return repository.name.encode()
    if name == b"user.revision":
        return str(repository.revision).encode()
    if slot.path == SHARED and name in (b"user.catalog", b"user.image"):
        return None  # the file is one of several images, each with a catalog of its own
    if name == b"user.catalog":
        return slot.ref.digest.hex().encode()
    if name in (b"user.image", b"user.path"):
        return slot.top.path if name == b"user.image" else tree.path_of(number, fetched)
    if name in (b"user.host", b"user.proxy"):
        told = repository.facts().get(name.decode())
        return told.encode() if told else None
    entry = tree.entry(number, fetched)
    if not entry.is_file:
        return None
    if name == b"user.digest":
        return b"sha256:" + entry.content_id.hex().encode() if entry.content else b""
    if name == b"user.chunks":
        chunked = entry.size and 0 < entry.detail <= MAX_SHIFT
        return str(chunk_count(entry.size, entry.detail) if chunked else int(bool(entry.size))).encode()
    return None
