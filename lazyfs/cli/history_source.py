"""The history of a repository, read from its store or over its URL."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.core.history.head import History, decode
from lazyfs.core.history.records import Change, PastRevision, Read, decode_changes
from lazyfs.core.params import Revision
from lazyfs.repository.commit import read_revision
from lazyfs.repository.image_place import find_place
from lazyfs.repository.kept_revisions import DAY
from lazyfs.repository.stored_history import first_entry
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import open_store, reader


class HistorySource:
    """The history of a repository, starting from one revision."""

    def __init__(self, newest: Revision, tree: StoredTree, read: Read) -> None:
        self.newest = newest
        self._tree = tree
        self.read = read
        if newest.history is None:
            self.history = History((first_entry(newest),))
        else:
            self.history = decode(read(newest.history))

    def revisions(self) -> Iterator[PastRevision]:
        """Yields every revision, newest first. Raises the errors of reading."""
        return self.history.newest_first(self.read)

    def tree_at(self, root: ObjectRef) -> StoredTree:
        """Returns the tree of the revision that has this root catalog."""
        return StoredTree(self.read, root)

    def names(self) -> dict[int, list[str]]:
        """Returns the names that keep revisions, by the number of the revision."""
        found: dict[int, list[str]] = {}
        for kept in self.history.names:
            found.setdefault(kept.number, []).append(kept.name)
        return found

    def is_kept(self, replaced: int | None, now: float) -> bool:
        """Returns True if a revision is kept even without a name. `replaced`: the time at which a newer
        revision replaced it; None for the newest."""
        return replaced is None or replaced + self.newest.params.keep_days * DAY > now

    def changes(self, past: PastRevision) -> list[Change]:
        """Returns the changes that a revision made. Raises the errors of reading."""
        return decode_changes(self.read(past.more)) if past.more else past.changes

    def place(self, image: str) -> str | None:
        """Returns the path in the newest revision that an image's name means; None if there is no such
        image."""
        try:
            return find_place(self._tree, image) or None
        except UsageError:
            return None


@contextmanager
def open_history(location: str, settings: dict[str, Any]) -> Iterator[HistorySource]:
    """Opens the history of a store (a directory or bucket) or of an http(s) URL. `settings`: settings of a
    mount for the connection and the trust; used for a URL only. Raises UsageError, TransportError,
    TrustError."""
    if not location.startswith(("http://", "https://")):
        store = open_store(location)
        newest = read_revision(store)
        yield HistorySource(newest, StoredTree(reader(store), newest.root), reader(store))
        return
    # A store on this machine needs no HTTP client, whose import takes longer than its log.
    from lazyfs.client.remote_repository import RemoteRepository
    from lazyfs.client.trust.anchor import read_anchor
    from lazyfs.daemon.cache_directory import default_cache
    from lazyfs.daemon.private_repositories import state_key
    from lazyfs.transport.open import open_fetcher
    from lazyfs.transport.tls import Tls
    from lazyfs.transport.tls_files import TlsFiles

    logging.disable(logging.WARNING)  # a path that is down is in the error, once
    files = TlsFiles(settings["ca"], settings["client_cert"], settings["client_key"])
    over_tls = any("https:" in url for url in (location, settings["proxy"]) if url)
    fetcher = open_fetcher(location, settings["proxy"], tls=Tls(files) if files or over_tls else None)
    try:
        anchor = read_anchor(settings["trust"]) if settings["trust"] else None
        state = os.path.join(settings["cache"] or default_cache(), "state", state_key(location, ""))
        remote = RemoteRepository(fetcher, state, anchor, lambda: datetime.now(UTC))
        tree = StoredTree(remote.read, remote.revision.root)
        yield HistorySource(remote.revision, tree, remote.read)
    finally:
        fetcher.close()
