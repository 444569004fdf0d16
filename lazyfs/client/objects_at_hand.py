"""The objects of one repository that the local cache has. Nothing here waits for the network or needs it."""

from collections.abc import Mapping

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
        self.ahead: dict[Digest, UnusedWindow] = {}
        """Objects that a profile had fetched and nobody has used yet, each with the window that bounds what
        the profile may fetch ahead."""
        self.listed: dict[Digest, UnusedWindow] = {}
        """The objects that profiles under way list, except hot packs, each with the window of its profile.
        Objects that are in the cache already are among them."""

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
            window = self.ahead.pop(digest, None)
            if window is not None:
                window.use(digest)

    def asked(self, ref: ObjectRef) -> None:
        """Notes that a reader asks for an object that is to be fetched."""
        self.used(ref.digest)
        window = self.listed.get(ref.digest)
        if window is not None:
            window.ask(ref)

    def is_foreseen(self, read: Digest) -> bool:
        """Returns True if a profile under way lists the object that was read: the profile then also lists the
        objects that are read after it. Returns False while the profile's bound on unused bytes stops its
        fetches."""
        window = self.listed.get(read)
        return window is not None and not window.exhausted

    def is_at_hand(self, ref: ObjectRef) -> bool:
        """Returns True if the local cache has the object. Does not count as a use."""
        return self._part(ref, 0, 1) is not None

    def _part(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        arrived = self.arrived.get(ref.digest)
        if arrived is not None and len(arrived) == ref.size:
            return arrived[start : start + length]
        return self.cache.read(ref.digest, start, max(min(length, ref.size - start), 0), ref.size)
