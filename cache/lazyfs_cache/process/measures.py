"""Measurements of one cache directory, for `policy.limits`."""

from lazyfs_cache.files import usage
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.index.database import Index
from lazyfs_cache.policy.limits import FreeSpace
from lazyfs_cache.policy.sizes import entries_in_map


class DirectoryMeasures:
    """Measurements with one generation of the index. The fixed files (locks, state, indexes set aside) are
    measured once, since they change only with the generation."""

    def __init__(self, files: ValueFiles, index: Index) -> None:
        self._files = files
        self._index = index
        self._fixed = usage.fixed_bytes(files.root, files.block, index.file)

    def fixed(self) -> int:
        return self._fixed + self._files.tops_used()

    def index_file(self) -> int:
        return self._index.used()

    def index_entries(self) -> int:
        return entries_in_map(self._index.map_size)

    def free(self) -> FreeSpace:
        found = self._files.filesystem_status()
        return FreeSpace(found.f_bavail * found.f_frsize, found.f_files, found.f_favail)
