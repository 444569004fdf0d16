"""Reads wishlists from files, web addresses and working trees, and keeps the last good content of each.

If a list cannot be read, is empty, or is no list at all, none of its wishes is withdrawn: its last good
content, kept in the service's status directory (`state`), stays in force. If a list has lost most of its
wishes, the lost wishes stay in force too, until a later run reads the same bytes again.
"""

import os
import re
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from lazyfs.core.digest import sha256
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.core.printable import escaped, printable
from lazyfs.core.wishlist.findings import Finding
from lazyfs.core.wishlist.read import MOST_BYTES, Wishlist, read_wishlist
from lazyfs.core.wishlist.wish import Wish
from lazyfs.images.registry.other_servers import wire_to
from lazyfs.images.registry.replies import stated_length
from lazyfs.sync.failures import failure_of
from lazyfs.system.durable_file import write_durably

SUFFIXES = (".yaml", ".yml", ".txt")
"""Suffixes of the files in a working tree that are read as wishlists. README.txt, LICENSE.txt and the like
are left out."""
_NO_LISTS = (
    "readme",
    "license",
    "licence",
    "copying",
    "authors",
    "contributing",
    "codeowners",
    "requirements",
)
MOST_FILES = 10_000
CONFIRMED_AFTER = 3600
"""Seconds after which the same bytes, read again, confirm that a list is meant to have lost wishes. A server
that is being repaired or filled is seldom in the same state for an hour."""
_SHOWN_QUERY = re.compile(r"#query-[0-9a-f]{8}")
_ACCOUNT = re.compile(r"://[^/?#]*@")


class GivenList(NamedTuple):
    """One wishlist as a run uses it."""

    name: str
    """The list's path or address as pages, logs and states show it: see `shown_name`."""
    lists: Wishlist
    """The list in force: the content read now, or the last good content."""
    problems: tuple[Finding, ...]
    """The faults of the content read now."""
    complete: bool
    """True if every line of the content read now was understood. If it is False, images that the list does
    not name still count as wished."""
    kept: bool = False
    """True if the last good content is in force, not the content read now."""
    fresh: bytes | None = None
    """The content read now, if it is good. It is kept for later runs."""
    doubted: bytes | None = None
    """The content read now, if most wishes of the last good content are missing in it. A later run has to
    confirm this content."""


class ListKeeper:
    """Keeps in a directory, for each list, the last good content. If later content has to be confirmed, also
    keeps the hash of that content, and the time at which it was first read."""

    def __init__(
        self, directory: str | None, now: Callable[[], float] = time.time, meant: Container[str] = ()
    ) -> None:
        """`directory`: None to keep nothing. `now`: returns seconds since 1970. `meant`: shown names of lists
        that may lose wishes without confirmation."""
        self._directory = directory
        self._now = now
        self._meant = meant

    def take(self, given: GivenList) -> None:
        """Keeps the content of a list for later runs: good content as the last good one, doubted content to
        be confirmed by a later run. Raises OSError."""
        if given.fresh is not None:
            self.keep(given.name, given.fresh)
        elif given.doubted is not None:
            self._doubt(given.name, given.doubted)

    def last_good(self, name: str) -> bytes | None:
        """Returns the last good content of the list of this name; None if there is none."""
        if self._directory is None:
            return None
        try:
            with open(self._path(name), "rb") as file:
                return file.read(MOST_BYTES + 1)
        except OSError:
            return None

    def confirms(self, name: str, data: bytes) -> bool:
        """Returns True if the operator or an earlier run confirms that a list is meant to have lost wishes.
        `data`: the content of the list without these wishes."""
        since = self._doubted_since(name, data)
        return name in self._meant or (since is not None and self._now() - since >= CONFIRMED_AFTER)

    def _doubted_since(self, name: str, data: bytes) -> float | None:
        """Returns the time at which these bytes were first doubted; None if other bytes were doubted last, or
        if that time is in the future because the clock was set back."""
        if self._directory is None:
            return None
        try:
            with open(self._path(name, "doubted"), encoding="ascii") as file:
                since, digest = file.read(200).split()
            found = float(since)
        except (OSError, ValueError):
            return None
        return found if digest == sha256(data).hex() and found <= self._now() else None

    def _doubt(self, name: str, data: bytes) -> None:
        if self._directory is not None and self._doubted_since(name, data) is None:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            text = f"{self._now():.0f} {sha256(data).hex()}\n"
            write_durably(self._path(name, "doubted"), text.encode())

    def keep(self, name: str, data: bytes) -> None:
        """Keeps the good content of a list. Raises OSError."""
        if self._directory is not None:
            self._drop(name, "doubted")
            if self.last_good(name) != data:
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
                write_durably(self._path(name), data)

    def forget(self, name: str) -> None:
        """Forgets the last good content of a list, and the content that was to be confirmed."""
        if self._directory is not None:
            self._drop(name, "doubted")
            self._drop(name, "list")

    def _drop(self, name: str, kind: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path(name, kind))

    def _path(self, name: str, kind: str = "list") -> str:
        assert self._directory is not None
        return os.path.join(self._directory, f"{sha256(name.encode()).hex()[:32]}.{kind}")


def expand(names: Sequence[str]) -> list[str]:
    """Returns the files and addresses of lists. A directory stands for the lists in it and below it, sorted
    by path.

    Raises UsageError for a directory without lists.
    """
    found: list[str] = []
    for name in names:
        if "://" in name or not os.path.isdir(name):
            found.append(name)
            continue
        below = list(_lists_below(name))
        if not below:
            raise UsageError(f"{escaped(name)}: a directory without wishlists ({', '.join(SUFFIXES)})")
        found.extend(below)
    return list(dict.fromkeys(found))


def _lists_below(directory: str) -> Iterator[str]:
    count = 0
    for folder, inner, files in os.walk(directory):
        inner[:] = sorted(one for one in inner if not one.startswith("."))
        for file in sorted(files):
            base = file.lower()
            if file.startswith(".") or not base.endswith(SUFFIXES) or base.startswith(_NO_LISTS):
                continue
            count += 1
            if count > MOST_FILES:
                raise UsageError(f"{escaped(directory)}: over {MOST_FILES} wishlists")
            yield os.path.join(folder, file)


def fetch(name: str) -> bytes:
    """Returns the bytes of a file or web address. Raises LazyfsError with a message of one line."""
    if "://" in name:
        return _download(name)
    try:
        with open(name, "rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"wishlist {escaped(name)}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"wishlist {escaped(name)}: not a path") from None


def _download(url: str) -> bytes:
    shown = printable(shown_name(url))
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may have an account in it
        raise UsageError(f"wishlist {shown}: not an address") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise UsageError(f"wishlist {shown}: give a file, a directory, or an https:// address")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "wishlist: an address with an account in it would stand in logs: leave the account out"
        )
    wire = wire_to(url)
    try:
        with wire.get(url, {"Accept": "text/plain, */*"}) as reply:
            if reply.status != 200:
                raise LazyfsError(f"wishlist {shown}: the server answers {reply.status}")
            data = reply.small(MOST_BYTES)
            stated = stated_length(reply.headers)
            if stated is not None and "Content-Encoding" not in reply.headers and len(data) != stated:
                raise LazyfsError(f"wishlist {shown}: cut: {len(data)} of {stated} bytes")
            if stated is None and "chunked" not in reply.headers.get("Transfer-Encoding", "").lower():
                raise LazyfsError(
                    f"wishlist {shown}: the server states no length, so that a cut list looks whole: "
                    "have it send Content-Length, or HTTP/1.1"
                )
            return data
    finally:
        wire.close()


def shown_name(name: str) -> str:
    """Returns the name of a list as pages, logs and states show it. A shown name is returned unchanged.

    The account in an address is left out, and so is its query, which may be a token. Eight hex digits of the
    query's hash (`#query-1a2b3c4d`) stand in its place, to tell apart lists that differ only in the query.
    A byte of a path that is not UTF-8 is shown as \\xNN.
    """
    if "://" not in name:
        return escaped(name)
    address, _, fragment = name.partition("#")
    place, _, query = address.partition("?")
    mark = f"#query-{sha256(query.encode(errors='surrogateescape')).hex()[:8]}" if query else f"#{fragment}"
    return escaped(_ACCOUNT.sub("://", place, count=1)) + (mark if _SHOWN_QUERY.fullmatch(mark) else "")


def load(name: str, keeper: ListKeeper, get: Callable[[str], bytes] = fetch) -> GivenList:
    """Reads a list; if it is not good now, returns its last good content. `name`: the list's path or address.
    `get`: returns the bytes at a path or address. Raises no error of the list: it is in the result."""
    given, name = name, shown_name(name)
    try:
        data = get(given)
        read = read_wishlist(data, name)
    except Exception as error:  # noqa: BLE001 - fails alone
        data, read = b"", Wishlist(name, "", (), (Finding(0, failure_of(error).reason),), whole=False)
    if read.whole and read.wishes:
        lost = _lost(read, keeper.last_good(name), data)
        if lost and not (read.complete and keeper.confirms(name, data)):
            return _doubted(read, lost, data)
        return GivenList(name, read, read.findings, read.complete, fresh=data)
    problems = read.findings or (Finding(0, "the list wishes nothing", "give it up with --forget"),)
    before = keeper.last_good(name)
    if before is None:
        return GivenList(name, read, problems, complete=False)
    return GivenList(name, read_wishlist(before, name), problems, complete=False, kept=True)


def _lost(read: Wishlist, last_good: bytes | None, data: bytes) -> list[Wish]:
    """Returns the wishes of the last good content that are missing in `read`, if they are at least two and
    over half of that content; otherwise an empty list."""
    if last_good is None or last_good == data:
        return []
    before = read_wishlist(last_good, read.name).wishes
    now = {wish.shown for wish in read.wishes}
    lost = [wish for wish in before if wish.shown not in now]
    return lost if len(lost) >= 2 and 2 * len(lost) > len(before) else []


def _doubted(read: Wishlist, lost: list[Wish], data: bytes) -> GivenList:
    """Returns the GivenList for a list that has lost most of its wishes: the lost wishes stay in force beside
    the present ones, and `data` is to be confirmed by a later run."""
    doubt = Finding(
        0,
        f"{len(lost)} wishes of before are gone, over half of them: they stay until a run reads the same "
        "list again, an hour from now or later",
        f"if it is meant, give --accept-shorter {read.name}",
    )
    both = read._replace(wishes=(*read.wishes, *lost))
    return GivenList(read.name, both, (*read.findings, doubt), complete=False, doubted=data)
