"""The packs of a Python package, once its `__init__` is read. Pure.

An import reads `__init__` first, and then most of the package. A start of an analysis reads from 180 packs.
Without this rule it waits for 135 of them, one after the other; with it, for 88, and 11 packs are fetched
that nobody wants. A reader of files here and there seldom reads an `__init__`.
"""

from collections import OrderedDict
from typing import Final

from lazyfs.core.digest import ObjectRef
from lazyfs.vfs.siblings import Siblings, packs_of

PACKS: Final = 8
"""The largest number of packs of a package that are fetched. A package in more packs is left out: of a large
one (`dist-packages` itself) a program uses a part."""
PACKAGES: Final = 4096
"""The largest number of packages that are remembered, so that the packs of each are returned once."""
_INIT: Final = b"__init__."
_COMPILED: Final = b"__pycache__"


class PythonPackages:
    """Chooses the packs of a package to fetch, once for each package. Not thread-safe: call it under the
    tree's lock."""

    def __init__(self) -> None:
        self._suggested: OrderedDict[tuple[int, int], None] = OrderedDict()

    def read(self, file: Siblings) -> list[ObjectRef]:
        """Notes a read of a file in a pack. If the file is an `__init__`, as source or compiled, returns the
        packs of its package without those of the subpackages; otherwise returns an empty list."""
        catalog, place = file.catalog, file.directory
        if catalog is None or not file.entries[file.position].name.startswith(_INIT):
            return []
        if place[1] and catalog.entry(catalog.own_index(place[1])).name == _COMPILED and file.parent:
            place = file.parent
        if place in self._suggested:
            return []
        self._suggested[place] = None
        if len(self._suggested) > PACKAGES:
            self._suggested.popitem(last=False)
        package = catalog.directory(place[1])
        compiled = package.find(_COMPILED)
        inner = compiled is not None and compiled.is_dir and not compiled.nested
        numbers = [place[1], *([compiled.detail] if inner and compiled else [])]
        found = packs_of(catalog, numbers)
        return found if len(found) <= PACKS else []
