"""The file of trusted state, and the revision in it, checked without python-tuf for a mount that begins."""

import os
from datetime import UTC, datetime

from lazyfs.core.digest import parse_hex
from lazyfs.core.errors import FormatError
from lazyfs.core.params import Revision
from lazyfs.core.trust.quick_check import proven
from lazyfs.core.trust.roles import MAX_ROOT, ROOT, file_name
from lazyfs.core.trust.saved import MAX_SAVED
from lazyfs.system.trusted_files import Untrusted, open_file


def state_path(directory: str) -> str:
    """Returns the path of the file of a repository's trusted state, in its own directory."""
    return os.path.join(directory, "trust.json")


def read_state(path: str) -> tuple[bytes, tuple[int, int]]:
    """Returns the file's content, cut at one byte more than the largest valid size, and two numbers that are
    different for each version of the file. Raises OSError, Untrusted."""
    with open(open_file(path, os.O_RDONLY), "rb") as file:
        status = os.fstat(file.fileno())
        return file.read(MAX_SAVED + 1), (status.st_ino, status.st_mtime_ns)


def trusted_revision(directory: str, url: str, trust: str | None, max_stale: float | None) -> Revision | None:
    """Returns the revision with which a mount of the repository at `url` begins: the last trusted one, or
    the one before if no mount has shown the last one yet. Its signatures, versions and hashes are checked.

    `directory`: that of the trusted state. `trust`: the operator's root file or fingerprint. Returns None if
    no revision is saved, if it expired longer than `max_stale` seconds ago, or if only `Revisions.offline`
    can judge it.
    """
    try:
        data, _ = read_state(state_path(directory))
        found = proven(data, _anchor(url, trust))
    except (OSError, ValueError, Untrusted):  # ValueError: a name with NUL
        return None
    if found is None:
        return None
    if max_stale is not None and (datetime.now(UTC) - found.expires).total_seconds() > max_stale:
        return None
    return found.revision


def _anchor(url: str, trust: str | None) -> bytes | None:
    """Returns the anchor for the repository at `url`: a fingerprint, or the bytes of a root; None to trust
    the saved state without one. Raises OSError, ValueError."""
    if trust:
        try:
            return parse_hex(trust.lower())
        except FormatError:
            return _first_bytes(trust)
    if "://" in url:
        return None
    try:
        return _first_bytes(os.path.join(url, "metadata", file_name(ROOT, 1)))
    except OSError:
        return None


def _first_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_ROOT + 1)
