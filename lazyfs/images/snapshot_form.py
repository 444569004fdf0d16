"""Snapshots and links in a form that can be sent to another process: what hangs in the tree, without its
contents."""

import msgspec

from lazyfs.core.catalog.entry import Xattrs
from lazyfs.core.catalog.inode import Inode, Nested


class SnapshotForm(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An Inode that is a link, or a directory whose catalog is in the store."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    flags: int = 0
    xattrs: Xattrs = ()
    content: bytes = b""
    nested: Nested | None = None


def form_of(inode: Inode) -> SnapshotForm:
    """Returns the form of a link or snapshot."""
    assert inode.children is None
    return SnapshotForm(
        inode.mode,
        inode.uid,
        inode.gid,
        inode.mtime,
        inode.flags,
        inode.xattrs,
        inode.content,
        inode.nested,
    )


def inode_of(form: SnapshotForm) -> Inode:
    """Returns the inode of a form."""
    return Inode(
        form.mode,
        uid=form.uid,
        gid=form.gid,
        mtime=form.mtime,
        size=len(form.content),
        content=form.content,
        flags=form.flags,
        xattrs=form.xattrs,
        nested=form.nested,
    )
