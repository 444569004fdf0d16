"""The image's root filesystem, held open from the moment it was found.

A name in a published tree can become a link at any time, for example to the machine's own root. So the path
that was found is opened without following links. When the path is used again later, it is compared with the
file held open.
"""

import os
import weakref

from lazyfs.core.errors import UsageError
from lazyfs.system.rooted_paths import open_without_links


class PinnedRoot:
    """A descriptor of a directory or file. It is closed when this object is garbage."""

    def __init__(self, path: str, above: "PinnedRoot | None" = None) -> None:
        """`path`: absolute, or relative to the directory `above`; free of links. Raises UsageError if the
        path is now a link, or does not exist."""
        top = os.open("/" if above is None else f"/proc/self/fd/{above.number}", os.O_PATH | os.O_CLOEXEC)
        try:
            self.number: int = open_without_links(top, path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"image {path}: has changed since it was found: {error.strerror}") from None
        finally:
            os.close(top)
        self.path = path
        weakref.finalize(self, os.close, self.number)

    def part(self, path: str) -> "PinnedRoot":
        """Opens a path inside the directory. Raises UsageError."""
        return PinnedRoot(path, self)

    def check(self) -> None:
        """Raises UsageError if the path leads to another file now."""
        now = PinnedRoot(self.path)
        if not os.path.samestat(os.fstat(self.number), os.fstat(now.number)):
            raise UsageError(f"image {self.path}: has been exchanged since it was found")
