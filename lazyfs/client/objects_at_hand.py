"""The objects of one repository that the local cache has. Nothing here waits for the network or needs it."""

from collections.abc import Iterable, Mapping

from lazyfs.client.hot_files import HotFiles
from lazyfs.client.local_cache import LocalCache
from lazyfs.client.private_cache import PrivateCache
from lazyfs.client.unused_window import UnusedWindow
from lazyfs.core.digest import Digest, ObjectRef


class ObjectsAtHand:
    """A repository's objects in the local cache."""

    def __init__(self, cache: LocalCache, namespace: bytes = b"") -> None:
        """`namespace`: a part of the cache keys of the repository's objects, if the repository needs a
        credential; otherwise empty."""
        self.namespace = namespace
        self.cache = PrivateCache(cache, namespace) if namespace else cache
        """The part of the cache that this repository reads and writes."""
        self.arrived: dict[Digest, bytes] = {}
        """Verified objects that the cache is about to admit."""
        self.hot = HotFiles()
        self.ahead: dict[Digest, tuple[UnusedWindow, ...]] = {}
        """Objects that profiles had fetched and nobody has used yet, each with the windows that bound what
        these profiles may fetch ahead."""
        self.listed: dict[Digest, tuple[UnusedWindow, ...]] = {}
        """The objects that profiles under way list, except hot packs, each with the windows of these
        profiles. Objects that are in the cache already are among them."""

    def at_hand(self, ref: ObjectRef) -> bytes | None:
        """Returns an object's plaintext; None if the local cache does not have it. Never waits for the
        network."""
        plain = self.arrived.get(ref.digest)
        if plain is None:
            plain = self.cache.get(ref.digest)
        if plain is None or len(plain) != ref.size:
            return None
        self.used(ref.digest)
        return plain

    def read_at_hand(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        """Returns part of an object's plaintext, cut at its end; None if the local cache does not have the
        object."""
        found = self._part(ref, start, length)
        if found is not None:
            self.used(ref.digest)
        return found

    def copy_at_hand(
        self, file: ObjectRef, start: int, length: int, fetched: Mapping[Digest, bytes]
    ) -> bytes | None:
        """Returns part of a small file, given by its SHA-256 and size. Returns None if no hot pack with a
        copy of it is in the local cache or in `fetched`."""
        if file.digest not in self.hot:
            return None
        found = self.hot.read(file, start, length, fetched, self._part)
        if found is None:
            return None
        self.used(found[0])
        return found[1]

    def used(self, digest: Digest) -> None:
        """Notes that a reader has used an object."""
        if digest in self.ahead:
            for window in self.ahead.pop(digest, ()):
                window.use(digest)

    def asked(self, ref: ObjectRef) -> None:
        """Notes that a reader asks for an object that is to be fetched."""
        self.used(ref.digest)
        for window in self.listed.get(ref.digest, ()):
            window.ask(ref)

    def count_ahead(self, digest: Digest, window: UnusedWindow) -> None:
        """Notes that an object comes ahead of its use, within a profile's bound."""
        self.ahead[digest] = _with(self.ahead.get(digest, ()), window)

    def count_listed(self, digests: Iterable[Digest], window: UnusedWindow) -> None:
        """Notes that a profile under way lists these objects."""
        for digest in digests:
            self.listed[digest] = _with(self.listed.get(digest, ()), window)

    def forget(self, window: UnusedWindow) -> None:
        """Forgets the objects that the profile of `window` has fetched and those that it lists."""
        for table in (self.ahead, self.listed):
            for digest, windows in list(table.items()):
                if window in windows:
                    left = tuple(other for other in windows if other is not window)
                    if left:
                        table[digest] = left
                    else:
                        table.pop(digest, None)

    def is_foreseen(self, read: Digest) -> bool:
        """Returns True if a profile under way lists the object that was read: the profile then also lists the
        objects that are read after it. Returns False while the profile's bound on unused bytes stops its
        fetches."""
        return any(not window.exhausted for window in self.listed.get(read, ()))

    def is_at_hand(self, ref: ObjectRef) -> bool:
        """Returns True if the local cache has the object. Does not count as a use."""
        return self._part(ref, 0, 1) is not None

    def _part(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        arrived = self.arrived.get(ref.digest)
        if arrived is not None and len(arrived) == ref.size:
            return arrived[start : start + length]
        return self.cache.read(ref.digest, start, max(min(length, ref.size - start), 0), ref.size)


def _with(windows: tuple[UnusedWindow, ...], window: UnusedWindow) -> tuple[UnusedWindow, ...]:
    return windows if window in windows else (*windows, window)
