"""Fetches the next layers of an image while an earlier one is read. A few are fetched side by side, each into
a temporary file, a part at a time; together the files have at most LIMIT bytes. The layers are read in order.

The layer being read comes straight from the network, or from the file that a thread is filling. A layer for
which the limit leaves too little room is not fetched ahead at all.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from lazyfs.core.oci.manifest import Descriptor
from lazyfs.images.temporary_file import append, open_temporary, read_at

PARALLEL = 3
LIMIT = 2 << 30
"""The largest number of bytes of layers in the temporary files at a time."""

Fetch = Callable[[Descriptor], Iterator[bytes]]


class _File:
    """A temporary file of a layer that is being fetched: one thread writes it, another reads the bytes
    written so far."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self._name = f"layer {descriptor.digest}"
        self._file = open_temporary(self._name)
        self._changed = threading.Condition()
        self._written = 0
        self._ended = False
        self._cancelled = False
        self._error: BaseException | None = None

    def fill(self, fetch: Fetch) -> None:
        """Fetches the layer to its end; called in a thread of its own."""
        try:
            for part in fetch(self.descriptor):
                with self._changed:
                    if self._cancelled:
                        return
                    append(self._file, part, self._name)
                    self._written += len(part)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - the reader raises it
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def read(self, part_size: int = 1 << 20) -> Iterator[bytes]:
        """Yields the bytes as the writer writes them; raises the writer's exception, or UsageError."""
        position = 0
        while True:
            with self._changed:
                while not self._ended and self._written == position:
                    self._changed.wait()
                if position == self._written:
                    if self._error:
                        raise self._error
                    return
                part = read_at(self._file, position, min(part_size, self._written - position), self._name)
            position += len(part)
            yield part

    def cancel(self) -> None:
        with self._changed:
            self._cancelled = True

    def close(self) -> None:
        with self._changed:
            self._cancelled = True
            self._changed.wait_for(lambda: self._ended)
        self._file.close()


def read_ahead(
    layers: Sequence[tuple[int, Descriptor]], fetch: Fetch, *, parallel: int = PARALLEL, limit: int = LIMIT
) -> Generator[tuple[int, Iterator[bytes]], None, None]:
    """Yields (number, bytes) of each layer in order; the following layers are fetched meanwhile. `parallel`:
    the largest number of layers that are fetched side by side. `limit`: the largest number of bytes in the
    temporary files at a time. Raises UsageError if TMPDIR has no room for them, and as `fetch`."""
    files: dict[int, _File] = {}
    used = 0
    with ThreadPoolExecutor(max(parallel, 1), "layer") as pool:
        try:
            for position, (number, descriptor) in enumerate(layers):
                for ahead, wanted in layers[position : position + parallel]:
                    if ahead not in files and wanted.size + used <= limit and (ahead != number or files):
                        used += wanted.size
                        files[ahead] = _File(wanted)
                        pool.submit(files[ahead].fill, fetch)
                file = files.get(number)
                if file is None:
                    yield number, fetch(descriptor)
                    continue
                yield number, file.read()
                file.close()
                del files[number]
                used -= descriptor.size
        finally:
            for file in files.values():
                file.cancel()
            for file in files.values():
                file.close()
