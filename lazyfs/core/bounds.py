"""The bounds of the format: no publisher writes numbers beyond them, and no reader accepts such numbers.

A signed catalog may come from a stranger. So a reader compares each number in it with its bound before using
the number. Together the bounds limit the memory that one object takes to some 100 MiB. docs/format.md lists
them.
"""

MAX_SHIFT = 24
"""log2 of the largest chunk, 16 MiB. By measurement, chunks larger than 1 MiB save hardly any requests."""
OBJECT = 1 << MAX_SHIFT
"""Plaintext bytes of any object: a file in one piece, a chunk, a chunk list, a catalog."""
PACK = 4 << 20
"""Plaintext bytes of a pack. A reader that wants 4 KB fetches and keeps the whole pack, so this bound is far
below OBJECT."""
PACKS = 1 << 16
"""Most packs that one catalog names: a table of 2.4 MB in its header."""
CHUNKS = 1 << 18
"""Chunks of a file: 256 GiB at the usual 1 MiB, 4 TiB at 16 MiB. Their list takes 8 MiB."""
INLINE_CHUNKS = 32
"""Files of at most this many chunks have the chunks' digests in their entry: 32 MiB at the usual 1 MiB,
nearly every library. A chunk list costs a request, and a wait before the first chunk."""
INLINE_BYTES = 1 << 18
"""Most bytes of chunk digests in the entries of one catalog. If there would be more, every chunked file of
the catalog has a chunk list."""

ENTRIES = 1 << 17
"""Names of one catalog, and so of one directory: 50 to 80 MiB decoded."""
DEPTH = 2048
"""Most levels of directories, one inside another, in one catalog."""
CATALOG_HEADER = 4 << 20
"""Bytes of a catalog's header: 130,000 nested catalogs with their totals."""
SHARED = 1 << 16
"""Hardlink groups of one snapshot that have names in several catalogs."""
SHARED_ID = (1 << 31) - 1
"""Largest id of a hardlink group with names in several catalogs: the bit above marks such a group in an inode
number."""

NAME = 255
"""Bytes of a name."""
PATH = 4095
"""Bytes of a link's target, and of the path of a nested catalog below its repository: Linux takes no longer
paths."""
NESTED_PATH = 3800
"""Bytes of the path of a nested catalog below its image, which leaves room for the path of the image."""
XATTR = 1 << 16
"""Bytes of an extended attribute's value, and of all names of one file together: Linux's bounds."""
NOBODY = (1 << 32) - 1
"""No user or group: the kernel's (uid_t)-1."""
MAJOR, MINOR = (1 << 12) - 1, (1 << 20) - 1
"""Largest major and minor number of a device: Linux keeps them in 12 and 20 bits."""
NLINK = (1 << 31) - 1
COUNT = 1 << 48
"""Entries, or files, in the totals of a subtree."""
BYTES = 1 << 60
"""Bytes in the totals of a subtree, so that the sum of a site's repositories still fits 64 bits."""

HOT_PACKS = 1 << 12
"""Hot packs of a profile: 512 MiB in packs of 128 KiB, the smallest ones."""
HOT_FILES = 1 << 16
"""Small files in all hot packs of a profile together."""
PROFILE_OBJECTS = 1 << 14
"""Other objects of a profile: 512 MiB in chunks of 32 KiB."""
PROGRAMS = 64
"""Programs of a profile."""
PROFILE = 4 << 20
"""Plaintext bytes of a profile: 36 for each small file, 40 for each hot pack and object, 4 more for each
object of a program."""
