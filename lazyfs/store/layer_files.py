"""The contents of one layer's files, in the order of its archive: small ones are gathered into packs."""

from collections.abc import Callable

from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.layers.record import Record
from lazyfs.core.pack import Cutter
from lazyfs.core.params import Params

Read = Callable[[int], bytes]
"""A function that returns the next bytes of a file, as many as it is asked for."""


class Pack:
    """A pack that is being filled or stored, and the files that lie in it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        """The contents of the files in the pack; dropped once the pack is stored."""
        self.size = 0
        self.ref: ObjectRef | None = None
        """The pack's digest and size, once the pack is stored."""
        self.files: list[tuple[Record, int]] = []
        """The record of each file in the pack, with the file's offset."""

    def settle(self) -> None:
        """Notes in the record of each file its place in the pack. Called once the pack is stored."""
        for record, offset in self.files:
            record.pack, record.offset = self.ref, offset


class LayerFiles:
    """Takes the files of one layer. Each content is stored once: a repeated one gets the place of the first.

    It holds at most one pack, and passes each pack on to be stored as soon as the pack is full.
    """

    def __init__(
        self, params: Params, add: Callable[[Record, Read], None], put: Callable[[Pack], None]
    ) -> None:
        """`add` stores a file that is too large for a pack. `put` stores a full pack."""
        self._most = min(params.pack_files, 1 << params.chunk_shift)
        self._cutter = Cutter(params.pack_least, params.pack_target, params.pack_most)
        self._add = add
        self._put = put
        self._pack = Pack()
        self._places: dict[Digest, tuple[Pack, int]] = {}

    def add(self, record: Record, read: Read) -> None:
        """Takes `record.size` bytes from `read`. The record's content and place are set by the time that
        `Ingest.finish` returns."""
        if not 0 < record.size <= self._most:
            self._add(record, read)
            return
        data = read(record.size)
        digest = sha256(data)
        record.content = digest
        place = self._places.get(digest)
        if place is not None:
            place[0].files.append((record, place[1]))
            return
        if self._cutter.begins(len(data)):
            self.end()
        pack = self._pack
        self._places[digest] = pack, pack.size
        pack.files.append((record, pack.size))
        pack.parts.append(data)
        pack.size += len(data)
        if self._cutter.ends(len(data), digest):
            self.end()

    def end(self) -> None:
        """Passes the pack that is being filled on to be stored, even if it is not full."""
        if self._pack.size:
            self._put(self._pack)
            self._pack = Pack()
