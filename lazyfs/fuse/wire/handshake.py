"""The request INIT: the features that the kernel offers, and the ones among them that are used. Pure."""

from lazyfs.core.errors import UsageError
from lazyfs.fuse.wire import protocol as p

MAX_PAGES = 256
"""The largest number of pages of a read: 1 MiB, the kernel's default limit."""
MAX_READ = MAX_PAGES * 4096
MAX_WRITE = 4096
"""The largest number of bytes of a write: the smallest value that the kernel takes, since nothing is
written."""
MAX_BACKGROUND = 512
"""The largest number of the kernel's read-ahead requests under way at one time. With the default of 12, a
dozen that wait for slow fetches would hold up the read-ahead of every other reader."""

NEEDED = p.ASYNC_READ | p.NO_OPEN_SUPPORT | p.NO_OPENDIR_SUPPORT | p.DO_READDIRPLUS | p.MAX_PAGES
"""The features that make the direct session better than the one on pyfuse3. Without them it serves no
mount."""
WANTED = (
    NEEDED
    | p.PARALLEL_DIROPS
    | p.CACHE_SYMLINKS
    | p.EXPLICIT_INVAL_DATA
    | p.ABORT_ERROR
    | p.INIT_EXT
    | p.NO_EXPORT_SUPPORT
)
"""The features that are used if the kernel offers them. READDIRPLUS_AUTO is not one of them: with it, every
second page of a large folder comes without attributes, and the kernel then asks for each of that page's names
alone."""


def check_continuation(reply: bytes) -> None:
    """Checks that this version keeps to the reply that an earlier process gave to INIT. Raises UsageError."""
    if len(reply) != p.INIT_OUT.size:
        raise UsageError(f"a reply to INIT of {len(reply)} bytes cannot be continued")
    _, _, _, flags, *_, flags2 = p.INIT_OUT.unpack(reply)
    more = (flags | flags2 << 32) & ~WANTED
    if more:
        raise UsageError(f"the kernel was promised the features {more:#x}, which this version does not have")


def init_reply(payload: bytes) -> bytes:
    """Returns the reply to INIT. Raises UsageError for a kernel that lacks a needed feature."""
    if len(payload) < p.INIT_IN.size:
        raise UsageError(f"the kernel begins with {len(payload)} bytes of INIT: mount with --fuse pyfuse3")
    major, minor, max_readahead, flags = p.INIT_IN.unpack_from(payload)
    if major != p.KERNEL_VERSION or minor < p.MINOR_NEEDED or flags & NEEDED != NEEDED:
        raise UsageError(
            f"the kernel speaks FUSE {major}.{minor}, and the direct session needs "
            f"{p.KERNEL_VERSION}.{p.MINOR_NEEDED} or later: mount with --fuse pyfuse3"
        )
    if flags & p.INIT_EXT and len(payload) >= p.INIT_IN.size + p.FLAGS2.size:
        flags |= p.FLAGS2.unpack_from(payload, p.INIT_IN.size)[0] << 32
    taken = flags & WANTED
    return p.INIT_OUT.pack(
        p.KERNEL_VERSION, min(minor, p.KERNEL_MINOR_VERSION), max(max_readahead, MAX_READ),
        taken & 0xFFFF_FFFF, MAX_BACKGROUND, MAX_BACKGROUND * 3 // 4, MAX_WRITE, 1, MAX_PAGES, 0, taken >> 32,
    )  # fmt: skip
