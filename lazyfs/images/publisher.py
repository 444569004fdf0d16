"""Publishing: sources become snapshots, snapshots hang in the tree, the tree becomes the next revision.

Write order: objects, catalogs, everything flushed, then the signed metadata. A publish that fails or is
killed leaves the old revision; what it has written is found again by the next one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest
from lazyfs.core.errors import UsageError
from lazyfs.core.oci.reference import parse
from lazyfs.core.params import Params, Revision
from lazyfs.images.image_tree import publish_image, published_config
from lazyfs.images.observer import Watch
from lazyfs.images.snapshots import snapshot, tree_of
from lazyfs.images.sources.open import ImageOptions, open_image
from lazyfs.images.sources.trees import read_directory, read_tar
from lazyfs.repository import commit as commits
from lazyfs.repository.edit import LiveTree
from lazyfs.repository.keys import Keys
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest
from lazyfs.store.protocol import Store

REBASES = 5
"""How often a publish that another one overtook hangs its snapshots into the new revision."""


@dataclass(frozen=True)
class Options:
    """What the operator chose."""

    images: ImageOptions
    place: str | None = None
    level: int = 3
    workers: int | None = None
    plain: bool = False
    """Add nothing to images."""
    watch: Watch = field(default_factory=Watch)


@dataclass
class Report:
    """What a publish did."""

    revision: Revision
    changed: bool
    places: dict[str, str] = field(default_factory=dict)
    """Source -> path in the tree."""
    new_objects: int = 0
    new_bytes: int = 0


Changes = dict[str, Inode]
"""Path in the tree -> what to hang there."""


def publish(
    store: Store, keys: Keys, sources: Iterable[str], options: Options, now: Callable[[], datetime]
) -> Report:
    """Publishes the sources as one revision: all of them or none.

    Raises LazyfsError with one line for a source that cannot be read; the revision is as it was.
    """
    base = commits.current(store)
    report = Report(base, changed=False)
    changes: Changes = {}
    try:
        with Ingest(store, base.params, level=options.level, workers=options.workers) as ingest:
            tree = StoredTree(store, base.root)
            for source in sources:
                place, made = _prepare(source, tree, base.params, ingest, options)
                _check_distinct(source, place, report.places)
                report.places[source] = place
                changes.update(made)
            report.revision, report.changed = _commit(store, keys, base, changes, ingest, now)
    except BaseException:
        store.abandon()
        raise
    report.new_objects, report.new_bytes = ingest.new_objects, ingest.new_bytes
    return report


def _check_distinct(source: str, place: str, places: dict[str, str]) -> None:
    for other, taken in places.items():
        if taken == place:
            raise UsageError(f"{source} and {other} would both be published as {place}")


def _prepare(
    source: str, tree: StoredTree, params: Params, ingest: Ingest, options: Options
) -> tuple[str, Changes]:
    """(place, changes) of one source, everything but the live folders written."""
    kind, colon, rest = source.partition(":")
    if colon and kind in ("tar", "dir"):
        if not options.place:
            raise UsageError(f"{source}: say where the tree is to hang in the repository: --as PATH")
        place = _tree_path(options.place)
        records = read_tar(rest, ingest) if kind == "tar" else read_directory(rest, ingest)
        ingest.finish()
        return place, {place: snapshot(tree_of(records), params, ingest)}

    def known(place: str, digest: Digest) -> bytes | None:
        return published_config(tree, parse(options.place).path if options.place else place, digest)

    with open_image(source, options.images, known) as image:
        return publish_image(image, options.place, tree, params, ingest, options.watch, plain=options.plain)


def _tree_path(text: str) -> str:
    path = text.strip("/")
    if not path or any(part.startswith(".") for part in path.split("/")):
        raise UsageError(f"--as {text!r}: give a path of names that do not begin with a dot")
    return path


def _commit(
    store: Store,
    keys: Keys,
    base: Revision,
    changes: Changes,
    ingest: Ingest,
    now: Callable[[], datetime],
) -> tuple[Revision, bool]:
    """The revision that has the changes, and whether it had to be made."""
    for attempt in range(REBASES + 1):
        live = LiveTree(StoredTree(store, base.root), base.root, base.params)
        for path, inode in changes.items():
            live.put(path, inode)
        root = live.write(ingest)
        if root == base.root:
            return base, False
        try:
            return commits.commit(store, keys, root, expected_revision=base.number, now=now()), True
        except UsageError:
            newer = commits.current(store)
            if newer.number == base.number or attempt == REBASES:
                raise
            base = newer
    raise AssertionError("unreachable")
