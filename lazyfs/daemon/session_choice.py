"""Chooses the session: the direct one if it works, the one on pyfuse3 otherwise."""

import importlib
import logging

from lazyfs.core.errors import UsageError
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import HeldMount, MountOptions, Session

KINDS = ("direct", "pyfuse3")
"""The kinds of session, in the order in which `auto` tries them."""

log = logging.getLogger(__name__)


def make_session(
    kind: str,
    filesystem: Filesystem,
    mountpoint: str,
    options: MountOptions,
    taken: HeldMount | None = None,
    table: int | None = None,
) -> Session:
    """Mounts and returns a session of this kind; with `auto` the first that works. With `taken`, the session
    takes over that mount instead. `table`: the table of requests for a new mount (DirectSession).

    Raises UsageError if the mount is refused; with `auto` the error of the first session.
    """
    if taken is not None:
        from lazyfs.fuse.direct.session import DirectSession

        return DirectSession(filesystem, mountpoint, options, taken=taken)
    if kind != "auto":
        return _make(kind, filesystem, mountpoint, options, table)
    first: UsageError | None = None
    for other in KINDS:
        try:
            return _make(other, filesystem, mountpoint, options, table)
        except UsageError as error:
            log.warning("--fuse %s does not work here: %s", other, error)
            first = first or error
    assert first is not None
    raise first  # the direct session's error names the reason; errors of libfuse say little


def prepare(kind: str) -> None:
    """Imports the module of the session that `make_session` tries first."""
    importlib.import_module(f"lazyfs.fuse.{'pyfuse3_session' if kind == 'pyfuse3' else 'direct.session'}")


def _make(
    kind: str, filesystem: Filesystem, mountpoint: str, options: MountOptions, table: int | None
) -> Session:
    if kind == "direct":
        from lazyfs.fuse.direct.session import DirectSession

        return DirectSession(filesystem, mountpoint, options, table=table)
    from lazyfs.fuse.pyfuse3_session import Pyfuse3Session  # costs 30 ms of import

    assert kind == "pyfuse3"
    return Pyfuse3Session(filesystem, mountpoint, options)
