"""Which session: the direct one where it works, the one on pyfuse3 otherwise."""

from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import Options, Session

KINDS = ("pyfuse3",)


def make_session(kind: str, filesystem: Filesystem, mountpoint: str, options: Options) -> Session:
    """Mounts with a session of this kind; raises UsageError if the mount is refused."""
    from lazyfs.fuse.pyfuse3_session import Pyfuse3Session

    assert kind in KINDS
    return Pyfuse3Session(filesystem, mountpoint, options)
