"""Bounds the memory and the time that the entries of an image's layers take, whatever their headers say."""

from lazyfs.core.errors import FormatError

ENTRIES = 10_000_000
"""The largest number of entries of an image's layers together."""
HEADERS = 256 << 20
"""The largest number of bytes that the extended headers of an image's layers take together, beyond the
first ENTRY bytes of each entry. Room for 500,000 entries with 1 KiB each, as much as a signature, a label,
a capability, a long name and three times need. An entry of most images has none, or some 100 bytes."""
ENTRY = 512
"""Bytes of an entry's extended headers that do not count: the record and the inode made of an entry take
more, and ENTRIES bounds them."""
OVERHEAD = 128
"""Bytes counted for each header and each attribute beside its own: Python keeps three objects for an
attribute of one byte, and a header without any content takes time to read."""


class EntryBudget:
    """Counts the entries of the layers of one image, and their extended headers. The records of all layers
    are in memory until they are merged, so the layers share one budget."""

    def __init__(self, entries: int = ENTRIES, headers: int = HEADERS) -> None:
        self._entries = entries
        self._headers = headers
        self._counted = 0
        self._taken = 0
        self._own = 0
        """Bytes counted for the entry that is being read."""

    def count_header(self, size: int) -> None:
        """Counts an extended header of the next entry; to be called before its `size` bytes are read. Raises
        FormatError if the layers have too many."""
        self._count(OVERHEAD + size)

    def count_entry(self, attributes: int) -> None:
        """Counts an entry, whose headers have been counted. `attributes`: the number of its extended
        attributes. Raises FormatError if the layers have too many."""
        self._count(OVERHEAD * attributes)
        self._taken += max(self._own - ENTRY, 0)
        self._own = 0
        self._counted += 1
        if self._counted > self._entries:
            raise FormatError(f"over {self._entries} entries (an image's layers are counted together)")

    def _count(self, size: int) -> None:
        self._own += size
        if self._taken + self._own - ENTRY > self._headers:
            raise FormatError(
                f"over {self._headers} bytes of extended headers, which hold long names and extended "
                "attributes (an image's layers are counted together)"
            )
