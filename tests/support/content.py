"""Content of files, read as a mount reads it, in one step."""

from lazyfs.vfs.content import pieces, plan_read
from lazyfs.vfs.missing_objects import NOTHING, Fetched
from lazyfs.vfs.tree import Tree


def read_content(
    tree: Tree, number: int, offset: int = 0, length: int = 1 << 30, fetched: Fetched = NOTHING
) -> bytes:
    """Plans a read and carries it out. Returns the bytes of the file, cut at its end. Raises Need or
    OSError."""
    plan = plan_read(tree, number, offset, length, fetched)
    return b"".join(pieces(plan, tree.repositories[plan.repository].objects, fetched))
