"""Sizes that follow from a cache's limit alone. Bytes unless a name says otherwise."""

MIN_LIMIT = 2 << 20
"""Smallest limit of a cache: below it, the locks, the index and the space kept for the index's growth
(`slack`) leave no room for values."""

EVICTED_PER_TRANSACTION = 64
"""The largest number of values that are evicted in one transaction: about 1 ms for small ones."""

PASSES = 512
"""The largest number of values that SIEVE passes over in one transaction, because they were used: about 2
ms."""

_INDEX_BYTES_PER_ENTRY = 360
"""Bytes of the index's map that are set aside for each entry. With keys of 32 bytes up to 260 are used, once
every entry has been replaced many times: 160 for the row in `entries` and its ghosts, 100 for the row in
`queue`. Ghosts take a third of the 160 bytes, since a page is split when rows and ghosts fill it together.
Uses leave gaps in the pages of `queue`."""

_PAGE = 4096

_PAGES = 256
"""The largest number of pages of the index that a transaction writes, besides those that note the uses of
values. Measured at a million entries: LRU writes 102 pages for 32 arrivals and 64 evictions, with the sweep
of their ghosts. SIEVE writes 230, because the values that it evicts lie in pages far apart."""


def slack(limit: int) -> int:
    """Returns the largest number of bytes by which the index and a directory may grow within one transaction.

    LMDB copies pages that it changes, so the index's file may grow by every page that a transaction changes:
    a small index by its own size (a 17th of the limit at most), a large one by `_PAGES` and two pages for
    each use of a value that is written.
    """
    return min((64 << 10) + limit // 16, _PAGES * _PAGE + limit // 128)


def uses_per_transaction(limit: int) -> int:
    """Returns the largest number of uses of values that one transaction may write into the index: `slack`
    must cover the pages that they change, and they must be written in 10 ms (each page is in private memory
    until the transaction is committed)."""
    return min(max((slack(limit) - _PAGES * _PAGE) // (2 * _PAGE), 16), 1024)


def passes_per_transaction(limit: int) -> int:
    """Returns the largest number of used values that SIEVE may pass over in one transaction.

    A value that is passed over loses its mark, which changes one page of the index; a use changes two with
    LRU. So one value may be passed over for each use that may be written. In a small index, PASSES values may
    be passed over: `slack` covers all its pages.
    """
    small = slack(limit) < _PAGES * _PAGE + limit // 128
    return PASSES if small else min(uses_per_transaction(limit), PASSES)


def allowance(limit: int) -> int:
    """Returns the number of bytes that a process holds in addition to the space promised to values, while it
    admits values."""
    return min(max(limit // 256, 64 << 10), 4 << 20)


def map_size(limit: int, address_space: int | None) -> int:
    """Returns the number of bytes of address space for the index: a twelfth of the limit, because a value
    takes at least a block of 4 KiB and its entry 260 bytes. It is at least 16 MiB, and at most a quarter of
    `address_space`, which is the most that the process may have (None for no bound)."""
    wanted = max(limit // 12, 16 << 20)
    if address_space is not None:
        wanted = min(wanted, max(address_space // 4, 4 << 20))
    return wanted // _PAGE * _PAGE


def entries_in_map(map_size: int) -> int:
    """Returns the number of entries for which an index of `map_size` bytes has room."""
    return map_size // _INDEX_BYTES_PER_ENTRY


def largest_index(limit: int) -> int:
    """Returns the bytes above which an index is too large and is made anew from the values' files: a quarter
    of the limit. An index never shrinks; a new one takes a twelfth of the limit at most."""
    return max(limit // 4, MIN_LIMIT)
