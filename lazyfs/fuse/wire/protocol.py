"""Names and layout of linux/fuse.h (protocol 7.31 and later), as far as a read-only filesystem uses them.

Structures carry the names of the header without its `fuse_` prefix. Numbers are in the machine's own byte
order and every field is naturally aligned, so `=` (no padding) gives the C layout.
"""

from struct import Struct

KERNEL_VERSION = 7
KERNEL_MINOR_VERSION = 38
MINOR_NEEDED = 31
"""The protocol's minor version in Linux 5.4, which has MAX_PAGES, CACHE_SYMLINKS, NO_OPENDIR_SUPPORT and
EXPLICIT_INVAL_DATA."""
ROOT_ID = 1
MIN_READ_BUFFER = 8192

# enum fuse_opcode
LOOKUP = 1
FORGET = 2
GETATTR = 3
SETATTR = 4
READLINK = 5
SYMLINK = 6
MKNOD = 8
MKDIR = 9
UNLINK = 10
RMDIR = 11
RENAME = 12
LINK = 13
OPEN = 14
READ = 15
WRITE = 16
STATFS = 17
RELEASE = 18
FSYNC = 20
SETXATTR = 21
GETXATTR = 22
LISTXATTR = 23
REMOVEXATTR = 24
FLUSH = 25
INIT = 26
OPENDIR = 27
READDIR = 28
RELEASEDIR = 29
FSYNCDIR = 30
GETLK = 31
SETLK = 32
SETLKW = 33
ACCESS = 34
CREATE = 35
INTERRUPT = 36
BMAP = 37
DESTROY = 38
IOCTL = 39
POLL = 40
NOTIFY_REPLY = 41
BATCH_FORGET = 42
FALLOCATE = 43
READDIRPLUS = 44
RENAME2 = 45
LSEEK = 46
COPY_FILE_RANGE = 47
SETUPMAPPING = 48
REMOVEMAPPING = 49
SYNCFS = 50
TMPFILE = 51
STATX = 52

OPCODES = 64
"""The size of a table that opcodes index: every opcode is smaller than this."""
OPCODE_NAMES: dict[int, str] = {
    value: name
    for name, value in list(globals().items())
    if name.isupper()
    and isinstance(value, int)
    and name
    not in ("KERNEL_VERSION", "KERNEL_MINOR_VERSION", "MINOR_NEEDED", "ROOT_ID", "MIN_READ_BUFFER", "OPCODES")
}

MODIFYING = frozenset(
    (
        SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, SETXATTR, REMOVEXATTR, CREATE,
        FALLOCATE, RENAME2, COPY_FILE_RANGE, TMPFILE,
    )
)  # fmt: skip
"""Opcodes that a read-only filesystem refuses with EROFS."""

# enum fuse_notify_code
NOTIFY_INVAL_INODE = 2
NOTIFY_INVAL_ENTRY = 3

# flags of INIT; from bit 32 on they travel in flags2
ASYNC_READ = 1 << 0
DO_READDIRPLUS = 1 << 13
NO_OPEN_SUPPORT = 1 << 17
PARALLEL_DIROPS = 1 << 18
ABORT_ERROR = 1 << 21
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
NO_OPENDIR_SUPPORT = 1 << 24
EXPLICIT_INVAL_DATA = 1 << 25
INIT_EXT = 1 << 30
NO_EXPORT_SUPPORT = 1 << 38

_ATTR = "QQQqqqIIIIIIIIII"
ATTR = Struct("=" + _ATTR)
"""Fields: ino, size, blocks, atime, mtime, ctime, their nanoseconds, mode, nlink, uid, gid, rdev, blksize,
flags. The header calls times unsigned; the kernel reads them as signed."""

IN_HEADER = Struct("=IIQQIIIHH")
"""Fields: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""
IN_HEADER_HEAD = Struct("=II8s8s")
"""The fields of IN_HEADER that decide the action: len, opcode, unique, nodeid. Unique and nodeid are left as
bytes: they are only passed on."""
OUT_HEADER = Struct("=IiQ")
"""Fields: len, error (negative errno; of a notification its code), unique (of a notification 0)."""

ENTRY_OUT = Struct("=QQQQII" + _ATTR)
"""Fields: nodeid, generation, entry_valid, attr_valid, their nanoseconds, attr. A nodeid of 0 means a missing
name."""
ATTR_OUT = Struct("=QII" + _ATTR)
"""Fields: attr_valid, attr_valid_nsec, dummy, attr."""
DIRENT = Struct("=QQII")
"""Fields: ino, off (the offset of the next entry), namelen, type. The name follows, padded to 8 bytes."""
DIRENTPLUS = Struct("=QQQQII" + _ATTR + "QQII")
"""The fields of ENTRY_OUT, then those of DIRENT. The name follows, padded to 8 bytes."""
KSTATFS = Struct("=QQQQQIIII24x")
"""Fields: blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding."""
FORGET_IN = Struct("=Q")
"""Field: nlookup."""
BATCH_FORGET_IN = Struct("=II")
"""Fields: count, dummy. `count` structures FORGET_ONE follow."""
FORGET_ONE = Struct("=QQ")
"""Fields: nodeid, nlookup."""
READ_IN = Struct("=QQIIQII")
"""Fields: fh, offset, size, read_flags, lock_owner, flags, padding. For READ, READDIR and READDIRPLUS."""
GETXATTR_IN = Struct("=II")
"""Fields: size (0 asks for the size), padding. For LISTXATTR, and for GETXATTR, where a name follows."""
GETXATTR_OUT = Struct("=II")
"""Fields: size, padding. The answer to a request whose size is 0."""
INTERRUPT_IN = Struct("=Q")
"""Field: the unique number of the request to give up."""
INIT_IN = Struct("=IIII")
"""Fields: major, minor, max_readahead, flags. If flags has INIT_EXT, flags2 and padding follow."""
FLAGS2 = Struct("=I")
INIT_OUT = Struct("=IIIIHHIIHHI28x")
"""Fields: major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran,
max_pages, map_alignment, flags2."""
INVAL_INODE_OUT = Struct("=Qqq")
"""Fields: ino, off, len; a len of 0 means to the end."""
INVAL_ENTRY_OUT = Struct("=QII")
"""Fields: parent, namelen, flags. The name and a zero byte follow."""
