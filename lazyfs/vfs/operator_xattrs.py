"""Extended attributes for operators: where a file comes from, as CVMFS shows it.

They can be asked for by name and are left out of listings, where tools that copy would take them along.
"""

from lazyfs.vfs.missing_objects import NOTHING, Brought
from lazyfs.vfs.tree import Tree


def get_xattr(tree: Tree, number: int, name: bytes, brought: Brought = NOTHING) -> bytes | None:
    """An attribute of the image, or else one of the operators'."""
    found = tree.xattrs(number, brought).get(name)
    if found is not None or not name.startswith(b"user."):
        return found
    return _operator(tree, number, name, brought)


def list_xattrs(tree: Tree, number: int, brought: Brought = NOTHING) -> list[bytes]:
    """Names of the image's attributes, as stored."""
    return sorted(tree.xattrs(number, brought))


def _operator(tree: Tree, number: int, name: bytes, brought: Brought) -> bytes | None:
    slot, _ = tree.slot(number)
    repository = tree.repositories.get(slot.repository)
    if repository is None:
        return None
    if name == b"user.repository":
        return repository.name.encode()
    if name == b"user.revision":
        return str(repository.revision).encode()
    if name == b"user.catalog":
        return slot.ref.digest.hex().encode()
    if name in (b"user.image", b"user.path"):
        return slot.top.path if name == b"user.image" else tree.path_of(number, brought)
    if name in (b"user.host", b"user.proxy"):
        told = tree.facts(repository.name).get(name.decode())
        return told.encode() if told else None
    entry = tree.entry(number, brought)
    if not entry.is_file:
        return None
    if name == b"user.digest":
        return b"sha256:" + entry.content.hex().encode() if entry.content else b""
    if name == b"user.chunks":
        return str(-(-entry.size >> entry.detail) if entry.detail else int(bool(entry.size))).encode()
    return None
