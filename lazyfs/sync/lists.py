"""Where wishlists come from: files, web addresses, and working trees, with the last good content of each.

A list that cannot be had, is empty, or is no list at all says nothing of what is not wished: its last good
content, kept in the status directory, stays in force.
"""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from lazyfs.core.digest import sha256
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.core.printable import printable
from lazyfs.core.wishlist.findings import Finding
from lazyfs.core.wishlist.read import MOST_BYTES, Wishlist, read_wishlist
from lazyfs.images.registry.certificates import Certificates, folders
from lazyfs.images.registry.wire import Wire
from lazyfs.system.durable_file import write_durably

SUFFIXES = (".yaml", ".yml", ".txt")
"""Files of a working tree that are wishlists; README.txt, LICENSE.txt and the like are not."""
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


class GivenList(NamedTuple):
    """One list of a run."""

    name: str
    """Its path or address as the operator gave it."""
    lists: Wishlist
    """What is in force: as read now, or the last good content."""
    problems: tuple[Finding, ...]
    """What is wrong with what was read now."""
    complete: bool
    """True if what was read now was understood in every line: then what it does not name is not wished."""
    kept: bool = False
    """True if the last good content is in force."""
    fresh: bytes | None = None
    """What was read now, if it is good: to be kept."""


class ListKeeper:
    """Keeps the last good content of each list in a directory."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory

    def last_good(self, name: str) -> bytes | None:
        """Returns the last good content of the list of this name; None if there is none."""
        if self._directory is None:
            return None
        try:
            with open(self._path(name), "rb") as file:
                return file.read(MOST_BYTES + 1)
        except OSError:
            return None

    def keep(self, name: str, data: bytes) -> None:
        """Keeps a good content. Raises OSError."""
        if self._directory is not None and self.last_good(name) != data:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            write_durably(self._path(name), data)

    def forget(self, name: str) -> None:
        """Drops the last good content."""
        if self._directory is not None:
            try:
                os.unlink(self._path(name))
            except FileNotFoundError:
                pass

    def _path(self, name: str) -> str:
        assert self._directory is not None
        return os.path.join(
            self._directory, f"{sha256(name.encode(errors='surrogateescape')).hex()[:32]}.list"
        )


def expand(names: list[str] | tuple[str, ...]) -> list[str]:
    """Returns files and addresses: a directory stands for the lists in it and below, in the order of paths.

    Raises UsageError for a directory without lists.
    """
    found: list[str] = []
    for name in names:
        if "://" in name or not os.path.isdir(name):
            found.append(name)
            continue
        below = list(_lists_below(name))
        if not below:
            raise UsageError(f"{name}: a directory without wishlists ({', '.join(SUFFIXES)})")
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
                raise UsageError(f"{directory}: over {MOST_FILES} wishlists")
            yield os.path.join(folder, file)


def fetch(name: str) -> bytes:
    """Returns the bytes of a file or of what a web address answers. Raises LazyfsError of one line."""
    if "://" in name:
        return _download(name)
    try:
        with open(name, "rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"wishlist {name}: {error.strerror}") from None


def _download(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http"):
        raise UsageError(f"wishlist {printable(url)}: give a file, a directory, or an https:// address")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "wishlist: an address with an account in it would stand in logs: leave the account out"
        )
    environment = dict(os.environ)
    wire = Wire(
        Certificates((parts.netloc,), folders(environment), environment), plain_http=parts.scheme == "http"
    )
    try:
        with wire.get(url, {"Accept": "text/plain, */*"}) as reply:
            url = shown_name(url)
            if reply.status != 200:
                raise LazyfsError(f"wishlist {printable(url)}: the server answers {reply.status}")
            data = reply.small(MOST_BYTES)
            stated = reply.headers.get("Content-Length", "")
            if stated.isdigit() and "Content-Encoding" not in reply.headers and len(data) != int(stated):
                raise LazyfsError(f"wishlist {printable(url)}: cut: {len(data)} of {stated} bytes")
            return data
    finally:
        wire.close()


def shown_name(name: str) -> str:
    """Returns the name of a list as pages, logs and states have it: an address without its query, which may
    be a token."""
    return name.partition("?")[0].partition("#")[0] if "://" in name else name


def load(name: str, keeper: ListKeeper, get: Callable[[str], bytes] = fetch) -> GivenList:
    """Returns a list as it is now, or as it was when it was last good. Never raises LazyfsError."""
    given, name = name, shown_name(name)
    try:
        data = get(given)
        read = read_wishlist(data, name)
    except LazyfsError as error:
        data, read = b"", Wishlist(name, "", (), (Finding(0, str(error)),), whole=False)
    if read.whole and read.wishes:
        return GivenList(name, read, read.findings, read.complete, fresh=data)
    problems = read.findings or (Finding(0, "the list wishes nothing", "give it up with --forget"),)
    before = keeper.last_good(name)
    if before is None:
        return GivenList(name, read, problems, complete=False)
    return GivenList(name, read_wishlist(before, name), problems, complete=False, kept=True)
