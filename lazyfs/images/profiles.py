"""A profile for an image: what starts of it have touched, as bundles, hung beside the image.

The bundles hold copies of objects as they are stored. Everything is written before the signed metadata
that leads to it, and a killed or overtaken run leaves the revision as it was.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from lazyfs.core import bundle, codec, profile
from lazyfs.core.catalog.entry import LIVE
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest, ObjectRef, parse_hex
from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.params import Revision
from lazyfs.repository import commit as commits
from lazyfs.repository.diff import resolve
from lazyfs.repository.edit import LiveTree
from lazyfs.repository.keys import Keys
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest
from lazyfs.store.protocol import Store

FIRST = 256 << 10
"""Stored bytes of the first bundle, roughly: it holds what everything else waits for, and is wanted soon.
Each one after it is twice as large, up to LARGEST."""
LARGEST = 2 << 20
"""0.17 s of a 100 Mbit/s line: what a reader of a bundle's first member waits for."""
MOST = 512 << 20
"""Plaintext bytes of a profile. A start that touches more is no start; the rest is left out."""

_Touched = dict[Digest, None]
"""Digests in the order in which they were first touched."""


@dataclass
class Report:
    """What was made."""

    revision: Revision
    changed: bool
    place: str
    """Where the image hangs."""
    objects: int = 0
    bundles: int = 0
    stored_bytes: int = 0
    left_out: int = 0
    """Objects beyond MOST, or beyond what a bundle or a profile holds."""


def read_traces(paths: Iterable[str]) -> _Touched:
    """The objects that `lazyfs mount --trace` wrote down. Raises UsageError."""
    touched: _Touched = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    touched.setdefault(_object(line, f"{path}: line {number}"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"trace {path}: {error}") from None
    return touched


def _object(line: str, where: str) -> Digest:
    try:
        event = json.loads(line)
        return parse_hex(event[3])
    except (ValueError, LookupError, TypeError, AttributeError, FormatError):
        raise UsageError(f"{where} is no line of a trace; write one with lazyfs mount --trace") from None


def make(store: Store, keys: Keys, image: str, touched: _Touched, now: Callable[[], datetime]) -> Report:
    """Gives the image at this path of the tree (its name, or where it hangs) a profile of these objects.

    What the trace touched of other images is passed over. Raises UsageError if there is no such image, if
    the trace touched nothing of it, or if another publisher was first.
    """
    base = commits.current(store)
    root = base.root
    tree = StoredTree(store, root)
    found = resolve(tree, image)
    top = found.place.entry.nested
    if top is None or found.place.entry.flags & LIVE:
        raise UsageError(f"{image} is no image or published tree of the repository")
    members = _members(tree, top, touched)
    if not members:
        raise UsageError(f"the trace touched nothing of {image}")
    report = Report(base, changed=False, place=found.path)
    try:
        with Ingest(store, base.params) as ingest:
            bundles = list(_write(store, _within(members, report), report))
            hint = profile.hint(ingest.put(profile.encode(bundles)))
            live = LiveTree(tree, root, base.params)
            live.hint(found.path, hint)
            new_root = live.write(ingest)
            if new_root != root:
                report.revision = commits.commit(
                    store, keys, new_root, expected_revision=base.number, now=now()
                )
                report.changed = True
    except BaseException:
        store.abandon()
        raise
    return report


def _within(members: list[ObjectRef], report: Report) -> Iterator[ObjectRef]:
    # What readers refuse must not be written: half a bundle for one object, 40 bytes a member and some.
    size, left = 0, profile.MAX_SIZE // 48
    for ref in members:
        if size + ref.size > MOST or codec.frame_bound(ref.size) > profile.MAX_STORED // 2 or not left:
            report.left_out += 1
        else:
            size, left = size + ref.size, left - 1
            yield ref


def _members(tree: StoredTree, top: ObjectRef, touched: _Touched) -> list[ObjectRef]:
    """Catalogs and chunk lists first, from the top down; then contents in the order of the trace."""
    known: dict[Digest, tuple[ObjectRef, tuple[ObjectRef, ...]]] = {}
    metadata: set[Digest] = set()
    for ref, above in _objects(tree, top, ()):
        known.setdefault(ref.digest, (ref, above))
        metadata.update(one.digest for one in above)
    found = [known[digest] for digest in touched if digest in known]
    if not found:
        return []
    first: dict[ObjectRef, None] = {}
    for ref, above in found:
        first.update(dict.fromkeys(above))
        if ref.digest in metadata:
            first.setdefault(ref)
    return [*first, *(ref for ref, _ in found if ref not in first)]


def _objects(
    tree: StoredTree, ref: ObjectRef, above: tuple[ObjectRef, ...]
) -> Iterator[tuple[ObjectRef, tuple[ObjectRef, ...]]]:
    """Every object below a catalog, itself included, with the catalogs and the chunk list that lead there."""
    yield ref, above
    catalog, here = tree.catalog(ref), (*above, ref)
    for number in range(catalog.directories):
        for entry in catalog.directory(number).entries:
            if entry.nested:
                yield from _objects(tree, entry.nested, here)
            elif entry.whole:
                yield entry.whole, here
            elif entry.chunk_list:
                yield entry.chunk_list, here
                chunks = ChunkList(tree.read(entry.chunk_list), entry.size, entry.detail)
                leads = (*here, entry.chunk_list)
                yield from ((chunks.chunk(index), leads) for index in range(len(chunks)))


def _write(store: Store, members: Iterator[ObjectRef], report: Report) -> Iterator[profile.Bundle]:
    waiting: list[tuple[ObjectRef, bytes]] = []
    size, target = 0, FIRST
    for ref in members:
        frame = store.get(ref.digest)
        codec.open_object(frame, ref)  # a damaged object must not be spread
        waiting.append((ref, frame))
        size += len(frame)
        if size >= target or len(waiting) == bundle.MAX_MEMBERS:
            yield _put(store, waiting, report)
            waiting, size, target = [], 0, min(2 * target, LARGEST)
    if waiting:
        yield _put(store, waiting, report)


def _put(store: Store, members: list[tuple[ObjectRef, bytes]], report: Report) -> profile.Bundle:
    refs = tuple(ref for ref, _ in members)
    name = bundle.name(ref.digest for ref in refs)
    if not store.has(name):
        store.put(name, bundle.encode(members))
    stored = len(store.get(name))
    report.objects += len(refs)
    report.bundles += 1
    report.stored_bytes += stored
    return profile.Bundle(stored, refs)
