"""The choice of a profile for a start: the publisher's for the image, or a collected one for the program.

Which program starts is known once its executable is read. If nothing was collected for an image, its own
profile is fetched when it is entered. If only one program was reported, that program's is. If several were,
the executable decides, and the image's own profile is for programs that nobody has reported.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.prefetch.starts import is_executable
from lazyfs.vfs.content import ReadPlan

WAITING: Final = 256
"""Most images that were entered and whose program is not known yet; `ls -l` enters each image of a folder."""
PROGRAMS: Final = 16
"""Most programs of one image whose profiles are begun after one look at the image."""


class _Entered:
    """An image whose program is not known yet."""

    def __init__(self, own: ObjectRef | None) -> None:
        self.own = own
        """The profile that its publisher gave it; None once it is begun, too."""
        self.programs = 0
        """Executables that were read since."""


class ProgramProfiles:
    """The choices for one repository. Implements `starts.ReadWatcher`."""

    def __init__(
        self,
        collected: Callable[[Digest], Mapping[bytes, ObjectRef]],
        start: Callable[[ObjectRef], None],
    ) -> None:
        """`collected` returns the collected profiles of an image by its top catalog, without waiting: path of
        the program -> profile. `start` begins to fetch a profile."""
        self._collected = collected
        self._start = start
        self._waiting: OrderedDict[Digest, _Entered] = OrderedDict()

    @property
    def waits(self) -> bool:
        """True if the program of some image is not known: reads have to be told."""
        return bool(self._waiting)

    def entered(self, image: Digest, own: ObjectRef | None) -> None:
        """Takes an image that is looked up. `own`: the profile that its publisher gave it."""
        programs = self._collected(image)
        if not programs:
            if own is not None:
                self._start(own)
        elif len(programs) == 1:
            self._start(next(iter(programs.values())))
        elif image not in self._waiting:
            self._waiting[image] = _Entered(own)
            if len(self._waiting) > WAITING:
                self._waiting.popitem(last=False)

    def waits_for(self, image: Digest) -> bool:
        """Returns True if the program of an image that was entered is not known."""
        return image in self._waiting

    def read(self, image: Digest, path: bytes, read: ReadPlan) -> None:
        """Takes a read in such an image."""
        if not is_executable(read.entry):
            return
        entered = self._waiting[image]
        found = self._collected(image).get(path)
        if found is None:
            found, entered.own = entered.own, None
        if found is not None:
            self._start(found)
        entered.programs += 1
        if entered.programs == PROGRAMS:
            del self._waiting[image]
