"""Finds the image that a name means in a stored tree."""

from lazyfs.core.errors import UsageError
from lazyfs.core.image_names import candidates, full_name, similar
from lazyfs.core.shown_address import shown_address
from lazyfs.repository.stored_tree import StoredTree


def find_place(tree: StoredTree, name: str) -> str:
    """Returns the path in `tree` of the image that a name means; the empty name means the tree's root.

    Raises UsageError if there is no such image (the message lists similar names), or if the name means
    several images.
    """
    name = name.strip("/")
    if not name:
        return ""
    for rank in candidates(name, _names(tree, "")):
        found = [path for path in rank if tree.find(path) is not None]
        targets = {_target(tree, path) for path in found}
        if len(targets) > 1:
            raise UsageError(f"{name} is ambiguous; give one of: {', '.join(found)}")
        if found:
            return found[0]
    near = similar(name, lambda folder: _names(tree, folder))
    hint = f"; there are {', '.join(near)}" if near else "; `lazyfs log STORE` lists what was published"
    full = full_name(name)
    meant = f" ({full})" if full != name else ""
    raise UsageError(f"{shown_address(name)}{meant} is not in this revision of the repository{hint}")


def _target(tree: StoredTree, path: str) -> bytes:
    """Returns the identity of an image: the content that its link leads to, or its path if it is no link."""
    node = tree.find(path)
    assert node is not None
    return node.entry.content.rpartition(b"/")[2] if node.entry.is_link else path.encode()


def _names(tree: StoredTree, folder: str) -> list[str]:
    node = tree.find(folder)
    if node is None or not node.entry.is_dir:
        return []
    return [entry.name.decode(errors="surrogateescape") for entry in tree.entries(node)]
