"""Names in a cache directory. Pure: no I/O.

DIR/                     mode 0700, one user's
  state.json             format, boot id, index generation, limit, policy, clean mark
  lock                   the index lock: flock, exclusive, with a time-out, held around every transaction;
                             8 bytes: the index's generation
  presence               flock, shared: held as long as a process has the cache open
  owners, claims         byte-range locks of processes and downloads; the files stay empty
  index-N/               LMDB, generation N
  index-aside/           the last index found damaged
  data/xx/HEX            sealed values: xx is a checksum of the key, HEX the key
  tmp/OWNER              a process's journal
  tmp/OWNER-N            its values being written, and its spare files
  pins/HEX               pin sets that outlive processes: one file of keys per label
"""

from isal import isal_zlib

FORMAT = 4

OTHER_INDEX = (2, 3)
"""The earlier formats of a cache directory, which can still be opened. They differ from the present one only
in the tables of the index, which is rebuilt from the files of the values."""

STATE, LOCK, PRESENCE, OWNERS, DOWNLOADS = "state.json", "lock", "presence", "owners", "claims"
DATA, TMP, PINS, INDEX, ASIDE = "data", "tmp", "pins", "index-", "index-aside"

MAX_KEY = 120
"""Bytes of the longest key: its hexadecimal form is a file name (255 bytes at most)."""

MAX_TENANT = 32
"""Bytes of the longest name of a tenant."""

FAN_OUT = tuple(f"{number:02x}" for number in range(256))
"""Names of the directories under data/: each has 3,900 names at a million entries, about 300 KiB."""

_PREFIX = tuple(f"{name}/" for name in FAN_OUT)


def directory_of(key: bytes) -> int:
    """Returns the number of a key's fan-out directory: a checksum, so that keys need not be evenly
    distributed."""
    return isal_zlib.crc32(key) & 0xFF


def name_of(key: bytes) -> str:
    """Returns the path of a key's value, relative to data/."""
    return _PREFIX[isal_zlib.crc32(key) & 0xFF] + key.hex()


def key_of(directory: str, name: str) -> bytes | None:
    """Returns the key whose value lies at `data/directory/name`; None if no value can have that place."""
    try:
        key = bytes.fromhex(name)
    except ValueError:
        return None
    return key if key and len(key) <= MAX_KEY and name_of(key) == f"{directory}/{name}" else None


def check_tenant(name: bytes) -> None:
    """Raises ValueError for a tenant's name that is too long."""
    if len(name) > MAX_TENANT:
        raise ValueError(f"the tenant {name!r} has a name of more than {MAX_TENANT} bytes")
