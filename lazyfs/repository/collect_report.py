"""The progress of a collection, and its result."""

import msgspec

from lazyfs.repository.marking import MostlyDead


class CollectReport(msgspec.Struct):
    """The findings and the deletions of a collection."""

    repository: str = ""
    revision: int = 0
    kept: list[int] = []
    """Numbers of the kept revisions."""
    reachable: int = 0
    """Number of objects that the kept revisions lead to."""
    garbage: int = 0
    """Number of objects that are condemned, or in a dry run would be."""
    garbage_bytes: int = 0
    deleted: int = 0
    waiting_for: int = 0
    """Number of publishers under way that must end before more can be deleted."""
    left_bytes: int = 0
    """Total size of the deleted files that killed publishers had left."""
    old_metadata: int = 0
    """Number of signed files that were deleted because their revisions are no longer kept."""
    mostly_dead: MostlyDead = msgspec.field(default_factory=MostlyDead)
    missing: int = 0
    stopped: bool = False
    """True if something is missing, so that nothing was deleted or decided."""
    problems: list[str] = []


class CollectObserver:
    """Is called with the progress of a collection, and does nothing. The command line has a subclass that
    shows the progress."""

    def marked(self, objects: int) -> None:
        """Takes the number of objects found reachable so far."""

    def waiting(self, publishers: int) -> None:
        """Takes the number of publishers that are waited for."""

    def deleted(self, objects: int) -> None:
        """Takes the number of objects deleted since the last call."""
