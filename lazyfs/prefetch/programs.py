"""Shared objects and executables: who touches one will want most of it, in no order.

The dynamic linker and page faults read a library here and there, and each chunk that is missing is a round
trip of waiting. So the first miss in one brings its other chunks along. A file is one by its name (`*.so`,
`*.so.1`), or by executable bit and ELF magic once its first chunk is here. Files of data, whose random
readers want what they touch and no more, are neither.
"""

import re
from collections import OrderedDict
from typing import Final

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import ObjectRef
from lazyfs.vfs import content
from lazyfs.vfs.missing_objects import Brought
from lazyfs.vfs.tree import Repository, Tree

MAGIC: Final = b"\x7fELF"
MOST: Final = 32 << 20
"""Plaintext bytes of one file asked for with a miss; a miss beyond them asks for as many again."""
FILES: Final = 1024
"""Files remembered; the least recently missed in is forgotten, and may be fetched for again."""
_LIBRARY: Final = re.compile(rb"\.so(\.[0-9]+)*$")


class Programs:
    """What has been suggested already. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._suggested: OrderedDict[bytes, set[int]] = OrderedDict()

    def touched(
        self, tree: Tree, repository: Repository, entry: Entry, offset: int, brought: Brought
    ) -> list[ObjectRef]:
        """Bytes at `offset` of this chunked file were missing, or have just been brought: the chunks to fetch
        with them if it is a program, from there on. Empty for a chunk that was suggested itself.

        Raises Need if the file's chunk list is not at hand.
        """
        chunks = content.chunk_list(tree, repository, entry, brought)
        if not _LIBRARY.search(entry.name):
            if not entry.mode & 0o111:
                return []
            first = chunks.chunk(0)
            head = brought.get(first.digest) or repository.objects.read_at_hand(first, 0, len(MAGIC))
            if not head or not head.startswith(MAGIC):
                return []
        suggested = self._suggested.setdefault(entry.content, set())
        self._suggested.move_to_end(entry.content)
        if len(self._suggested) > FILES:
            self._suggested.popitem(last=False)
        start, count = offset >> entry.detail, len(chunks)
        if start in suggested:
            return []
        window = [(start + step) % count for step in range(min(count, MOST >> entry.detail or 1))]
        found = [index for index in window if index not in suggested]
        suggested.update(found)
        return [chunks.chunk(index) for index in found if index != start]
