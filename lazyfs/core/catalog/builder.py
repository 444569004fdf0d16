"""Builds catalogs from a tree of inodes: the same tree gives the same bytes, in any order of building."""

import hashlib
from collections.abc import Callable, Iterator

import msgspec

from lazyfs.core import bounds
from lazyfs.core.catalog.entry import (
    DIRECTORY_SIZE,
    LIVE,
    NESTED,
    Entry,
    check_entry,
    check_name,
    packed_detail,
)
from lazyfs.core.catalog.inode import Inode, Nested
from lazyfs.core.catalog.layout import Header, Totals, encode
from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.core.errors import FormatError
from lazyfs.core.pack import PackTable

Emit = Callable[[ObjectRef, bytes], None]
"""A function that stores a catalog or chunk list, given its reference and plaintext. It is called before any
catalog that names the object is made."""


def build(root: Inode, limit: int, emit: Emit, *, live: bool = False) -> Nested:
    """Writes the catalogs of the tree below `root`. Returns the reference that a parent catalog would hold
    for the top catalog.

    A directory whose subtree holds at least `limit` entries (nested catalogs counting as one) becomes a
    catalog of its own, so the split depends on the directory's own subtree only. Where one catalog would hold
    more than `bounds.ENTRIES`, the directory's subdirectories become catalogs too. With `live` the tree must
    be one folder whose subdirectories are all nested. Sets `nlink` of every inode below `root`. Raises
    FormatError for an invalid name and for a directory that readers would refuse, ValueError for a live tree
    with plain subdirectories.
    """
    if root.children is None:
        raise ValueError("a catalog is built from a directory with its children")
    if live and any(child.children is not None for child in root.children.values()):
        raise ValueError("the subdirectories of a live folder must be nested")
    tops = _split(root, limit)
    shared = _count_links(root, tops)
    made: dict[int, Nested] = {}
    for top in tops:
        table = tuple(sorted((number, path) for number, path in shared.values())) if top is root else ()
        made[id(top)] = _encode(top, made, shared, table, live, emit)
    return made[id(root)]


def _directories(root: Inode) -> list[Inode]:
    """Returns `root` and every directory below it whose content is not a nested catalog, parents before their
    children."""
    found = [root]
    for directory in found:
        assert directory.children is not None
        found.extend(child for child in directory.children.values() if child.children is not None)
    return found


def _split(root: Inode, limit: int) -> list[Inode]:
    """Returns the directories that become catalogs, children before parents; `root` is the last. `limit`: as
    for `build`."""
    weights: dict[int, int] = {}
    tops = []
    for directory in reversed(_directories(root)):
        assert directory.children is not None
        weight = 1 + sum(weights.get(id(child), 1) for child in directory.children.values())
        if weight > bounds.ENTRIES:
            tops += [child for child in directory.children.values() if weights.get(id(child), 1) > 1]
            weight = 1 + len(directory.children)
        for child in directory.children.values():
            weights.pop(id(child), None)
        if weight >= limit or directory is root:
            tops.append(directory)
            weight = 1
        weights[id(directory)] = weight
    return tops


def _walk(root: Inode, tops: set[int]) -> Iterator[tuple[bytes, Inode, Inode]]:
    """Yields (path, inode, top directory of the catalog that holds the name) for every name, depth first and
    in the order of names. `tops`: the id() of each directory that becomes a catalog."""
    stack: list[tuple[bytes, Inode, Inode]] = [(b"", root, root)]
    while stack:
        path, inode, top = stack.pop()
        if path:
            yield path, inode, top
        if inode.children is None:
            continue
        inner = inode if id(inode) in tops else top
        prefix = path + b"/" if path else b""
        stack.extend(
            (prefix + name, inode.children[name], inner) for name in sorted(inode.children, reverse=True)
        )


def _count_links(root: Inode, tops: list[Inode]) -> dict[int, tuple[int, bytes]]:
    """Sets every inode's nlink. Returns the hardlink groups that have names in several catalogs: maps the
    id() of a group's inode to the group's number and the path of its first name. `tops`: the directories that
    become catalogs."""
    for directory in _directories(root):
        assert directory.children is not None
        directory.nlink = 2 + sum(child.is_dir for child in directory.children.values())
        for child in directory.children.values():
            if not child.is_dir:
                child.nlink = 0
    for directory in _directories(root):
        assert directory.children is not None
        for child in directory.children.values():
            if not child.is_dir:
                child.nlink += 1
    first: dict[int, tuple[bytes, Inode]] = {}
    spread: dict[int, bytes] = {}
    inner = {id(top) for top in tops}
    for path, inode, top in _walk(root, inner):
        if len(path) > bounds.NESTED_PATH and (inode.nested or id(inode) in inner):
            raise FormatError(
                f"a path of {len(path)} bytes leads to a catalog: {path[:200]!r}...; readers take "
                f"{bounds.NESTED_PATH} at most"
            )
        if inode.nlink > 1 and not inode.is_dir:
            seen, holder = first.setdefault(id(inode), (path, top))
            if holder is not top:
                spread[id(inode)] = seen
    taken: set[int] = set()
    shared = {}
    for key, path in sorted(spread.items(), key=lambda item: item[1]):
        # A hash, not a running number: this group's catalogs keep their bytes when other groups come or go.
        number = int.from_bytes(hashlib.sha256(path).digest()[:4], "big") & 0x3FFF_FFFF | 1
        while number in taken:
            number += 2
        taken.add(number)
        shared[key] = (number, path)
    return shared


def _encode(
    top: Inode,
    made: dict[int, Nested],
    shared: dict[int, tuple[int, bytes]],
    table: tuple[tuple[int, bytes], ...],
    live: bool,
    emit: Emit,
) -> Nested:
    """Writes the catalog whose root is the directory `top` and returns a reference to it. `made`: the
    catalogs made so far, among them those nested in this one. `shared`: the result of `_count_links`.
    `table`: the field `shared` of the header. `live`: its field `live`."""
    inner = [top]
    owns, parents, depths = [0], [0], [0]
    blobs: list[list[Entry]] = []
    nested_totals: list[tuple[int, Totals]] = []
    groups: dict[int, int] = {}
    packs: dict[ObjectRef, int] = {}
    totals = Totals()
    index = files = size = 0
    for number, directory in enumerate(inner):
        assert directory.children is not None
        entries = []
        for name in sorted(directory.children):
            inode = directory.children[name]
            check_name(name)
            index += 1
            link = 0
            nested = made.get(id(inode)) or inode.nested
            if nested:
                nested_totals.append((index, nested.totals))
                totals += nested.totals
                inode.nlink = nested.nlink
            elif inode.is_dir:
                owns.append(index)
                parents.append(number)
                depths.append(depths[number] + 1)
                inner.append(inode)
            elif inode.nlink > 1:
                link = groups.setdefault(id(inode), index)
                if id(inode) in shared:
                    link = -shared[id(inode)][0]
            if not inode.is_dir and groups.get(id(inode), index) == index:
                files += 1
                size += inode.size
            entries.append(_entry(name, inode, nested, len(inner) - 1, link, packs))
        blobs.append(entries)
    if depths[-1] > bounds.DEPTH:
        raise FormatError(f"{depths[-1]} directories lie in one another; readers take {bounds.DEPTH} at most")
    held = (len(entry.content) for entries in blobs for entry in entries if entry.chunks)
    if sum(held) > bounds.INLINE_BYTES:
        blobs = [[_with_list(entry, emit) for entry in entries] for entries in blobs]
    totals += Totals(index, files, size)
    root = _entry(b"", top, None, 0, 0, packs)
    header = Header(root, live, totals, tuple(nested_totals), table, PackTable.of(packs).encoded)
    plain = encode(header, owns, parents, blobs)
    ref = ref_of(plain)
    emit(ref, plain)
    return Nested(ref, live, top.nlink, totals)


def _with_list(entry: Entry, emit: Emit) -> Entry:
    """Returns the entry with the digest of its chunk list in place of the digests of its chunks; emits the
    list."""
    chunks = entry.chunks
    if chunks is None:
        return entry
    ref = ref_of(chunks.encoded)
    emit(ref, chunks.encoded)
    return msgspec.structs.replace(entry, content=ref.digest)


def _entry(
    name: bytes, inode: Inode, nested: Nested | None, number: int, link: int, packs: dict[ObjectRef, int]
) -> Entry:
    """Returns the entry of an inode. `number`: that of a directory in this catalog. `link`: the field of
    Entry. `packs` maps each pack to its number in the catalog; a pack that is not in it yet is added with the
    next number."""
    flags = inode.flags
    content, detail, size = inode.content, inode.detail, inode.size
    if inode.is_dir:
        content, detail, size = b"", number, DIRECTORY_SIZE
        if nested:
            content, detail = nested.ref
            flags |= NESTED | (LIVE if nested.live else 0)
    elif inode.pack is not None and size:
        if inode.offset + size > inode.pack.size:
            raise FormatError(f"{name!r} of {size} bytes lies outside its pack")
        detail = packed_detail(packs.setdefault(inode.pack, len(packs)), inode.offset)
    entry = Entry(
        name=name,
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        mtime=inode.mtime,
        size=size,
        content=content,
        detail=detail,
        nlink=inode.nlink,
        link=link,
        flags=flags,
        xattrs=inode.xattrs,
    )
    check_entry(entry)
    return entry
