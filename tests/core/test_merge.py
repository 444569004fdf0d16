"""Merging remembers the directory of the last entry. The tree must be the same as without that memory."""

import stat
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.errors import FormatError
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import Kind, Record
from tests.support.counts import count

ELSEWHERE = Record(Kind.INODE, b"elsewhere/directory", mode=stat.S_IFDIR | 0o755)


def directory(path: bytes) -> Record:
    return Record(Kind.INODE, path, mode=stat.S_IFDIR)


def link(path: bytes, target: bytes) -> Record:
    return Record(Kind.INODE, path, mode=stat.S_IFLNK, content=target)


paths = st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=3).map(b"/".join)
targets = st.builds(
    lambda before, path, after: before + path + after,
    st.sampled_from([b"", b"/", b"../"]),
    paths,
    st.sampled_from([b"", b"/..", b"/../b"]),
)
records = st.one_of(
    st.builds(
        lambda path, uid: Record(Kind.INODE, path, mode=stat.S_IFREG, uid=uid), paths, st.integers(0, 9)
    ),
    st.builds(directory, paths),
    st.builds(link, paths, targets),
    st.builds(lambda path, to: Record(Kind.HARDLINK, path, content=to), paths, paths),
    st.builds(lambda path: Record(Kind.WHITEOUT, path), paths),
    st.builds(lambda path: Record(Kind.OPAQUE, path), paths),
)


def merged(layers: list[list[Record]], between: list[Record]) -> Any:
    """Merges the layers, and applies the records `between` after each record of a layer. Returns the tree
    without the directory `elsewhere`, which these records make, or the text of the error."""
    merge = Merge()
    try:
        for layer in layers:
            merge.start_layer()
            for record in layer:
                merge.apply(record)
                for other in between:
                    merge.apply(other)
    except FormatError as error:
        return str(error)
    assert merge.root.children is not None
    merge.root.children.pop(b"elsewhere", None)
    return shape(merge.root)


def shape(inode: Inode) -> Any:
    inner = {name: shape(child) for name, child in (inode.children or {}).items()}
    return inode.mode, inode.uid, inode.content, inner


@pytest.mark.timeout(count(120, 900))
@settings(max_examples=count(300, 50_000))
@given(st.lists(records, max_size=4), paths, records)
@example([directory(b"b"), link(b"k", b"b/.."), directory(b"c/d")], b"k", link(b"k/b", b"c/d"))
@example([directory(b"b"), link(b"k", b"b/..")], b"k", link(b"k/b", b"nowhere/else"))
def test_a_tree_does_not_depend_on_what_was_merged_just_before(
    before: list[Record], parent: bytes, change: Record
) -> None:
    """The last layer has two files of one directory. The record between them may change the directory to
    which their path leads."""
    first, second = (Record(Kind.INODE, parent + b"/" + name, mode=stat.S_IFREG) for name in (b"x", b"y"))
    layers = [before, [first, change, second]]
    assert merged(layers, []) == merged(layers, [ELSEWHERE])
