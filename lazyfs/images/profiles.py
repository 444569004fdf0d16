"""Makes profiles. The profile of an image leads to bundles of the objects that starts of the image have
touched.

The bundles hold copies of stored objects. They are written before the signed metadata that leads to them, so
a run that is killed leaves the revision unchanged.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from lazyfs.core import bounds, bundle, codec, profile
from lazyfs.core.catalog.entry import LIVE
from lazyfs.core.digest import Digest, ObjectRef, parse_hex
from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.reach import Reached, catalog_at, walk
from lazyfs.repository.diff import resolve
from lazyfs.repository.edit import Edit
from lazyfs.repository.image_place import find_place
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import PublisherLease
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import ObjectSink, Store

FIRST = 256 << 10
"""Stored bytes of the first bundle, roughly: it is small, because a start waits for the catalogs in it. Each
later one is twice as large as the one before, up to LARGEST."""
LARGEST = 2 << 20
"""Stored bytes of the largest bundle: a reader of its first member waits for all of it, 0.17 s at 100
Mbit/s."""
MOST = 512 << 20
"""Most plaintext bytes in a profile; the rest is left out. A program that touches more is past its start."""

MAX_LINE = 1 << 16
"""Characters of one line of a trace: a path has 4,096 bytes."""
_Touched = dict[Digest, None]
"""Digests in the order in which they were first touched."""


@dataclass(frozen=True)
class ProfileReport:
    """The outcome of making a profile."""

    revision: Revision
    changed: bool
    """False if the image had this profile already."""
    place: str
    """Path at which the image's tree hangs."""
    objects: int
    bundles: int
    stored_bytes: int
    left_out: int
    """Objects that were too many or too large for a profile."""


def read_traces(paths: Iterable[str]) -> _Touched:
    """Reads the objects that `lazyfs mount --trace` recorded. Raises UsageError for a file that is not a
    trace."""
    touched: _Touched = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as lines:
                for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
                    touched.setdefault(_object(line, f"{path}: line {number}"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"trace {path}: {error}") from None
    return touched


def _object(line: str, where: str) -> Digest:
    try:
        event = json.loads(line)
        return parse_hex(event[3])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, FormatError):
        raise UsageError(f"{where} is no line of a trace; write one with lazyfs mount --trace") from None


def publish_profile(
    store: Store,
    keys: Keys,
    image: str,
    touched: _Touched,
    now: Callable[[], datetime],
    lease: PublisherLease | None = None,
) -> ProfileReport:
    """Gives the image at this path of the tree (its name, or its own path) a profile of these objects.

    Objects of other images among them are passed over. `lease`: as for Edit. Raises UsageError if there is no
    such image, if the trace touched none of its objects, or if another tree was published at its place
    meanwhile; also raises as Edit.commit.
    """
    with Edit(store, keys, now, lease=lease) as edit:
        found = resolve(edit.tree, find_place(edit.tree, image))
        top = found.node.entry.nested
        if top is None or found.node.entry.flags & LIVE:
            raise UsageError(f"{image} is no image or published tree of the repository")
        members = _members(edit.tree, top, touched)
        if not members:
            raise UsageError(f"the trace touched nothing of {image}")
        within = list(_within(members))
        bundles = list(_write(store, edit.objects, within))
        edit.hint(found.path, top, profile.hint(edit.ingest.put(profile.encode(bundles))))
        revision, changed = edit.commit()
    return ProfileReport(
        revision,
        changed,
        found.path,
        objects=len(within),
        bundles=len(bundles),
        stored_bytes=sum(one.stored for one in bundles),
        left_out=len(members) - len(within),
    )


def _within(members: list[ObjectRef]) -> Iterator[ObjectRef]:
    """Yields the objects that a profile has room for."""
    # Readers refuse more: an object may take half a bundle, and a member takes some 40 bytes of a profile.
    size, left = 0, min(profile.MAX_SIZE // 48, bounds.MEMBERS)
    for ref in members:
        if size + ref.size <= MOST and codec.frame_bound(ref.size) <= profile.MAX_STORED // 2 and left:
            size, left = size + ref.size, left - 1
            yield ref


def _members(tree: StoredTree, top: ObjectRef, touched: _Touched) -> list[ObjectRef]:
    """Returns the image's objects that were touched and those that lead to them: catalogs and chunk lists
    first, from the top down, then contents in the order of the trace."""
    known: dict[Digest, Reached] = {}
    for reached in walk([catalog_at(top)], tree.read):
        if reached.ref.digest in touched:
            known.setdefault(reached.ref.digest, reached)
    first: dict[ObjectRef, None] = {}
    contents = []
    for digest in touched:
        found = known.get(digest)
        if found is None:
            continue
        first.update(dict.fromkeys(found.above()))
        if found.leads_on:
            first.setdefault(found.ref)
        else:
            contents.append(found.ref)
    return [*first, *(ref for ref in contents if ref not in first)]


def _write(store: Store, objects: ObjectSink, members: list[ObjectRef]) -> Iterator[profile.Bundle]:
    """Writes bundles of the objects in this order and yields their descriptions."""
    waiting: list[tuple[ObjectRef, bytes]] = []
    size, target = 0, FIRST
    for ref in members:
        frame = store.get(ref.digest)
        codec.open_object(frame, ref)  # a damaged object must not be spread
        waiting.append((ref, frame))
        size += len(frame)
        if size >= target or len(waiting) == bundle.MAX_MEMBERS:
            yield _put(store, objects, waiting)
            waiting, size, target = [], 0, min(2 * target, LARGEST)
    if waiting:
        yield _put(store, objects, waiting)


def _put(store: Store, objects: ObjectSink, members: list[tuple[ObjectRef, bytes]]) -> profile.Bundle:
    refs = tuple(ref for ref, _ in members)
    name = bundle.name(ref.digest for ref in refs)
    if not objects.has(name):
        objects.put(name, bundle.encode(members))
    return profile.Bundle(len(store.get(name)), refs)
