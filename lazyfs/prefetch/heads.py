"""The first bytes of a file that is read, by which an executable is known."""

from lazyfs.prefetch.programs import MAGIC, Head
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.missing_objects import Fetched, LocalObjects


def head_of(read: ReadPlan, objects: LocalObjects, fetched: Fetched) -> Head:
    """Returns a function that reads the first bytes of a chunked file. The function returns None if they are
    neither in the cache nor in `fetched`."""

    def head() -> bytes | None:
        if read.chunks is None:
            return None
        first = read.chunks.chunk(0)
        return fetched.get(first.digest) or objects.read_at_hand(first, 0, len(MAGIC))

    return head
