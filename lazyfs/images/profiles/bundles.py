"""Writes the bundles of a profile: copies of stored objects, in the order in which a start wants them."""

from collections.abc import Iterable, Iterator, Sequence

from lazyfs.core import bounds, bundle, codec, profile
from lazyfs.core.digest import ObjectRef
from lazyfs.store import ObjectSink, ReadableStore

FIRST = 256 << 10
"""Stored bytes of the first bundle, roughly: it is small, because a start waits for the catalogs in it. Each
later one is twice as large as the one before, up to LARGEST."""
LARGEST = 2 << 20
"""Stored bytes of the largest bundle: a reader of its first member waits for all of it, 0.17 s at 100
Mbit/s."""
MOST = 512 << 20
"""Most plaintext bytes in a profile; the rest is left out. A program that touches more is past its start."""
LEAST_KEPT = FIRST // 2
"""A profile reuses a bundle of an older profile only if the bundle has this many stored bytes: each bundle
costs a request."""


def within_bounds(members: Iterable[ObjectRef]) -> Iterator[ObjectRef]:
    """Yields the objects that a profile has room for."""
    # Readers refuse more: an object may take half a bundle, and a member takes some 40 bytes of a profile.
    size, left = 0, min(profile.MAX_SIZE // 48, bounds.MEMBERS)
    for ref in members:
        if size + ref.size <= MOST and codec.frame_bound(ref.size) <= profile.MAX_STORED // 2 and left:
            size, left = size + ref.size, left - 1
            yield ref


class _Pile:
    """Objects that wait until they are enough for a bundle."""

    def __init__(self) -> None:
        self.members: list[tuple[ObjectRef, bytes]] = []
        self.size = 0

    def add(self, ref: ObjectRef, frame: bytes) -> None:
        self.members.append((ref, frame))
        self.size += len(frame)

    def take(self) -> list[tuple[ObjectRef, bytes]]:
        taken, self.members, self.size = self.members, [], 0
        return taken


class BundleWriter:
    """Writes the bundles of profiles."""

    def __init__(self, store: ReadableStore, objects: ObjectSink) -> None:
        self._store = store
        self._objects = objects

    def write(self, members: Sequence[ObjectRef], kin: Sequence[profile.Bundle] = ()) -> list[profile.Bundle]:
        """Writes bundles of the objects in this order and returns their descriptions. Raises DigestMismatch
        or FormatError for a damaged object.

        `kin`: the bundles of the older profile that this one is made from. A bundle is reused if all its
        objects are still wanted. The other objects of `kin` and the new objects go into separate bundles. So
        a worker that has the old image's objects fetches only the new ones.
        """
        found = list(self._write(members, kin))
        if len(found) > bounds.BUNDLES or sum(len(one.members) for one in found) > bounds.MEMBERS:
            found = list(self._write(members, ()))
        return found

    def _write(self, members: Sequence[ObjectRef], kin: Sequence[profile.Bundle]) -> Iterator[profile.Bundle]:
        numbers = {ref: number for number, one in enumerate(kin) for ref in one.members}
        kept = self._kept(members, kin)
        named: set[int] = set()
        unchanged, new = _Pile(), _Pile()
        target, last = FIRST, -1
        for ref in members:
            number = numbers.get(ref, -1)
            if number in kept:
                if number not in named:
                    named.add(number)
                    yield kept[number]
                continue
            if number >= 0:
                if number != last and unchanged.size >= LEAST_KEPT:
                    # Apart: whatever breaks one of them later leaves the other.
                    yield self._put(unchanged.take())
                last = number
            pile = unchanged if number >= 0 else new
            frame = self._store.get(ref.digest)
            codec.open_object(frame, ref)  # a damaged object must not be spread
            pile.add(ref, frame)
            if pile.size >= target or len(pile.members) == bundle.MAX_MEMBERS:
                yield self._put(pile.take())
                target = min(2 * target, LARGEST)
        for pile in (new, unchanged):
            if pile.members:
                yield self._put(pile.take())

    def _kept(self, members: Sequence[ObjectRef], kin: Sequence[profile.Bundle]) -> dict[int, profile.Bundle]:
        """Returns the bundles of `kin` that can be reused, by their number in `kin`."""
        wanted = set(members)
        return {
            number: one
            for number, one in enumerate(kin)
            if one.stored >= LEAST_KEPT and wanted.issuperset(one.members) and self._objects.has(one.name)
        }

    def _put(self, members: list[tuple[ObjectRef, bytes]]) -> profile.Bundle:
        refs = tuple(ref for ref, _ in members)
        name = bundle.name(ref.digest for ref in refs)
        if not self._objects.has(name):
            self._objects.put(name, bundle.encode(members))
        return profile.Bundle(len(self._store.get(name)), refs)
