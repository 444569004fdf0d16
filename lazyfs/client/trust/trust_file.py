"""Trusted state on disk: one file per repository, replaced in one rename, shared by all mounts of a user."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lazyfs.client.trust.anchor import Anchor
from lazyfs.client.trust.saved_trust import read_state, state_path
from lazyfs.core.errors import TrustError, UnsupportedFormat
from lazyfs.core.trust import state as states
from lazyfs.core.trust.errors import WrongRoot
from lazyfs.core.trust.state import TrustState
from lazyfs.system.durable_file import write_durably
from lazyfs.system.file_lock import lock_within
from lazyfs.system.trusted_files import Untrusted, make_private_directory, open_file

LOCK_WAIT = 2.0
"""Seconds to wait for the lock on the file. Another process holds it for the milliseconds of a write, unless
that process is stopped meanwhile. A state that could not be saved is saved after the next look for a
revision."""


class TrustFile:
    """Loads and saves one TrustState. No method raises for a fault of the disk or the file: `problem`
    describes the fault, and the mount goes on with the state in memory."""

    def __init__(self, directory: str, *, lock_wait: float = LOCK_WAIT) -> None:
        self._path = state_path(directory)
        self._lock_wait = lock_wait
        self._seen: tuple[int, int] | None = None
        self.owed = False
        """True if the last state could not be saved."""
        self.problem = ""
        """The reason why the file could not be read or written the last time; empty if it could."""

    def load(self, anchor: Anchor | None) -> TrustState | None:
        """Returns the saved state, verified; None if there is none, or it is not valid.

        A damaged file is set aside as trust.json.bad, so that the operator can find out what damaged it.
        """
        try:
            data, self._seen = read_state(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problem = f"{self._path}: {error.strerror}"
            return None
        except Untrusted as error:
            self.problem = f"{error}; it was not used"
            return None
        try:
            state = states.restore(data, anchor)
        except WrongRoot as error:
            self.problem = f"{self._path} was not used: {error}"
            return None
        except (TrustError, UnsupportedFormat) as error:
            self.problem = f"{self._path} was not used: {error}"
            if isinstance(error, TrustError):
                self._set_aside()
            return None
        self.problem = ""
        return state

    def changed(self) -> bool:
        """Returns True if another process has saved since this process last loaded or saved."""
        try:
            status = os.stat(self._path)
        except OSError:
            return False
        return (status.st_ino, status.st_mtime_ns) != self._seen

    def save(self, state: TrustState, anchor: Anchor | None) -> None:
        """Replaces the file, unless another process has saved a newer state meanwhile."""
        self.owed = True
        try:
            make_private_directory(os.path.dirname(self._path))
            with self._locked():
                if self.changed():
                    other = self.load(anchor)
                    if other and _age(other) > _age(state):
                        self.owed = False
                        return
                self._write(states.save(state))
            self.owed, self.problem = False, ""
        except OSError as error:
            self.problem = f"{self._path} could not be saved: {error.strerror}"
        except Untrusted as error:
            self.problem = f"{self._path} could not be saved: {error}"

    def _write(self, data: bytes) -> None:
        status = write_durably(self._path, data)
        self._seen = status.st_ino, status.st_mtime_ns

    def _set_aside(self) -> None:
        try:
            os.rename(self._path, self._path + ".bad")
        except OSError:
            pass

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = open_file(self._path + ".lock", os.O_RDWR | os.O_CREAT)
        try:
            if not lock_within(descriptor, self._lock_wait):
                raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock")
            yield
        finally:
            os.close(descriptor)


def _age(state: TrustState) -> tuple[int, int, int]:
    proven = state.proven
    return state.root.version, proven.root.version if proven else 0, proven.timestamp.version if proven else 0
