"""The bounds of the format: no publisher writes numbers beyond them, and no reader accepts such numbers.

A signed catalog may come from a stranger. So a reader compares each number in it with its bound before using
the number. Together the bounds limit the memory that one object takes to some 100 MiB. docs/format.md lists
them.
"""

MAX_SHIFT = 24
"""log2 of the largest chunk, 16 MiB. By measurement, chunks larger than 1 MiB save hardly any requests."""
OBJECT = 1 << MAX_SHIFT
"""The largest number of plaintext bytes of an object: a file in one piece, a chunk, a chunk list, a
catalog."""
PACK = 4 << 20
"""The largest number of plaintext bytes of a pack. A reader that wants 4 KB fetches and keeps the whole pack,
so this bound is far below OBJECT."""
PACKS = 1 << 16
"""The largest number of packs that one catalog names: a table of 2.4 MB in its header."""
CHUNKS = 1 << 18
"""The largest number of chunks of a file: a file has up to 256 GiB in the usual chunks of 1 MiB, and up to 4
TiB in chunks of 16 MiB. The chunk list takes 8 MiB."""
INLINE_CHUNKS = 32
"""Files of at most this many chunks have the chunks' digests in their entry. These are files of up to 32 MiB
in the usual chunks of 1 MiB, and so nearly every library. A chunk list costs a request, and a wait before the
first chunk."""
INLINE_BYTES = 1 << 18
"""The largest number of bytes that chunk digests take in all entries of one catalog together. If they would
take more, every chunked file of the catalog has a chunk list instead."""

ENTRIES = 1 << 17
"""The largest number of names in one catalog, and so in one directory: 50 to 80 MiB when decoded."""
DEPTH = 2048
"""The largest number of levels of directories, one inside another, in one catalog."""
CATALOG_HEADER = 4 << 20
"""The largest number of bytes of a catalog's header: room for 130,000 nested catalogs with their totals."""
SHARED = 1 << 16
"""The largest number of hardlink groups of one snapshot that have names in several catalogs."""
SHARED_ID = (1 << 31) - 1
"""The largest id of a hardlink group with names in several catalogs: the bit above it marks such a group in
an inode number."""

NAME = 255
"""The largest number of bytes of a file name."""
PATH = 4095
"""The largest number of bytes of a symbolic link's target, and of the path of a nested catalog below its
repository: Linux refuses paths with more bytes."""
NESTED_PATH = 3800
"""The largest number of bytes of the path of a nested catalog below its image; leaves room for the path of
the image."""
XATTR = 1 << 16
"""The largest number of bytes of an extended attribute's value, and of all attribute names of one file
together: Linux's bounds."""
NOBODY = (1 << 32) - 1
"""The id that stands for no user or group: the kernel's (uid_t)-1."""
MAJOR, MINOR = (1 << 12) - 1, (1 << 20) - 1
"""The largest major and the largest minor number of a device: Linux keeps them in 12 and 20 bits."""
NLINK = (1 << 31) - 1
COUNT = 1 << 48
"""The largest number of entries, or of files, that the totals of a subtree state."""
BYTES = 1 << 60
"""The largest number of bytes that the totals of a subtree state, so that the sum of a site's repositories
still fits 64 bits."""
FIRST_CATALOGS = 16
"""The largest number of catalogs that a revision names beside its root catalog."""

HOT_PACKS = 1 << 12
"""The largest number of hot packs of a profile: 512 MiB in packs of 128 KiB, the smallest ones."""
HOT_FILES = 1 << 16
"""The largest number of small files in all hot packs of a profile together."""
PROFILE_OBJECTS = 1 << 14
"""The largest number of objects of a profile beside its hot packs: 512 MiB in chunks of 32 KiB."""
PROGRAMS = 64
"""The largest number of programs of a profile."""
PROFILE = 4 << 20
"""The largest number of plaintext bytes of a profile. Each small file takes 36 of them, each hot pack and
each object 40, and each number of an object in the list of a program 4."""
