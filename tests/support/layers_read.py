"""Reads a layer given as bytes, and stores nothing."""

from lazyfs.core.layers.record import Record
from lazyfs.core.params import Params
from lazyfs.images.layer_reader import Blob, read_layer
from lazyfs.store.ingest import Ingest


class Nowhere:
    """A store that discards every object."""

    writers = 2

    def has(self, digest: bytes) -> bool:
        return False

    def put(self, digest: bytes, frame: bytes) -> None:
        pass


def read(data: bytes, **options: object) -> list[Record]:
    """Returns the records of a layer. `options` are those of `read_layer`."""
    with Ingest(Nowhere(), Params()) as ingest:
        blob = Blob("layer", len(data))
        records = read_layer(blob, [data] if data else [], ingest.layer(), **options)  # type: ignore[arg-type]
        ingest.finish()
    return records
