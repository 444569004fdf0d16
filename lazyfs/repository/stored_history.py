"""The history of a revision in its store: read, and written as objects before the commit that names it."""

from lazyfs.core import codec
from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.core.history.head import History, decode
from lazyfs.core.history.records import Emit, PastRevision, entry
from lazyfs.core.params import Revision
from lazyfs.repository.leases import LeasedObjects, PublisherLease
from lazyfs.store import ObjectSink, ReadableStore, Store, reader


def emitter(store: Store, lease: PublisherLease | None) -> Emit:
    """Returns a function that stores objects of a history. With a lease, an object that the store has already
    is protected from collection while the lease lasts."""
    sink: ObjectSink = LeasedObjects(store, lease) if lease else store

    def emit(ref: ObjectRef, plain: bytes) -> None:
        if not sink.has(ref.digest):
            sink.put(ref.digest, codec.encode(plain))

    return emit


def read_history(store: ReadableStore, revision: Revision) -> History:
    """Returns the history that a revision leads to. If the revision was made before there were histories,
    returns a new history that begins with this revision. Raises as `reader`."""
    if revision.history is None:
        return History((first_entry(revision),))
    return decode(reader(store)(revision.history))


def write_history(store: Store, history: History, lease: PublisherLease | None) -> ObjectRef:
    """Stores the head of a history and returns its reference."""
    plain = history.encode()
    ref = ref_of(plain)
    emitter(store, lease)(ref, plain)
    return ref


def first_entry(revision: Revision) -> PastRevision:
    """Returns a history's first entry: that of a revision that was made before there were histories."""
    return entry(
        revision.number,
        revision.time,
        revision.params.version,
        revision.root,
        [],
        None,
        lambda _ref, _plain: None,
    )
