"""One refresh of the trusted revision: its questions to the server, and their results so far."""

from collections.abc import Callable
from datetime import UTC, datetime

from tuf.api.metadata import Root, Timestamp

from lazyfs.client.trust.metadata_files import Ask, MetadataFiles
from lazyfs.core.trust.errors import WrongRoot
from lazyfs.core.trust.roles import (
    MAX_NEW_ROOTS,
    MAX_ROOT,
    MAX_ROOTS,
    MAX_TIMESTAMP,
    ROOT,
    TIMESTAMP,
    file_name,
)
from lazyfs.core.trust.signed import T, check_shape
from lazyfs.core.trust.update import WantedFile


class RefreshAttempt:
    """One refresh: its clock, its deadline, and the state of its questions to the server."""

    def __init__(
        self, files: MetadataFiles, now: datetime, deadline: float, check_cancelled: Callable[[], None]
    ) -> None:
        self._files = files
        self._deadline = deadline
        self._check_cancelled = check_cancelled
        self.now = now.astimezone(UTC)
        self._no_cache = False
        self.probed = False
        """True once the server is known to have no newer root."""
        self._roots = 0
        self._root_bytes = 0

    def count_root(self, data: bytes) -> None:
        """Counts one more new root, `data`. Raises WrongRoot if the new roots of this refresh are too many,
        or too large together."""
        self._roots += 1
        self._root_bytes += len(data)
        if self._roots > MAX_ROOTS or self._root_bytes > MAX_NEW_ROOTS:
            raise WrongRoot(
                f"the server has more than {MAX_ROOTS} new roots, or {MAX_NEW_ROOTS} bytes of them: "
                "it may be making them up"
            )

    def get(self, *asks: Ask) -> dict[str, bytes]:
        """Asks for files of metadata/. Returns those that came, by their names. Raises as
        MetadataFiles.get."""
        return self._files.get(asks, self._deadline, self._check_cancelled, no_cache=self._no_cache)

    def ask_the_origin(self) -> None:
        """Sends all further requests of this refresh past the caches, because a file was not trusted. The
        newest root is then asked for again too."""
        self._no_cache = True
        self.probed = False


def ask_timestamp() -> Ask:
    """Returns the question for the timestamp."""
    return ask_file(Timestamp, WantedFile(file_name(TIMESTAMP, 0), MAX_TIMESTAMP))


def ask_root(version: int) -> Ask:
    """Returns the question for the root of this version, which may not exist."""
    return ask_file(Root, WantedFile(file_name(ROOT, version), MAX_ROOT), optional=True)


def ask_file(kind: type[T], wanted: WantedFile, *, optional: bool = False) -> Ask:
    """Returns the question for the signed file `wanted`, of the given kind; an answer that cannot be such a
    file counts as a bad copy."""

    def accept(data: bytes) -> bytes:
        check_shape(kind, data, wanted.max_bytes)
        return data

    return Ask(wanted.name, wanted.max_bytes, optional, accept)
