"""Puts prepared images into the tree, several in each revision, and removes images that are no longer
wished."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import ObjectRef
from lazyfs.core.params import Revision
from lazyfs.core.tree_paths import INTERNAL
from lazyfs.images.snapshots import directory_of_files, link, snapshot
from lazyfs.repository.commit import read_revision
from lazyfs.repository.edit import Edit
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import LENGTH, PublisherLease
from lazyfs.repository.live_tree import LiveTree
from lazyfs.repository.removal import remove_images, remove_untagged
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import ObjectSink, Store, reader
from lazyfs.store.recent_objects import RecentObjects
from lazyfs.sync.layout import LAST_UPDATE, folder_links, link_target
from lazyfs.sync.published import Published


class Committer:
    """The changes that one run makes to a repository. Use as a context manager, from one thread."""

    def __init__(self, store: Store, keys: Keys, now: Callable[[], datetime], *, last_update: bool) -> None:
        """`last_update`: True to write logDir/lastUpdate with each revision. Raises as Edit."""
        self._lease = PublisherLease(store, now)
        self._edit = Edit(store, keys, now, lease=self._lease)
        self._now = now
        self._last_update = last_update
        self._trial: LiveTree | None = None
        self._published: Published | None = None
        self.waiting = 0
        """The number of changes that wait for the next commit."""
        self._news = False

    def __enter__(self) -> "Committer":
        self._edit.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self._edit.__exit__(raised[0])  # type: ignore[arg-type]
        finally:
            self._lease.end_if_possible()

    @property
    def objects(self) -> ObjectSink:
        """The sink for the contents of images."""
        return self._edit.objects

    @property
    def read(self) -> Callable[[ObjectRef], bytes]:
        """The function that reads objects of the store; it keeps those that it has read (`Edit.read`)."""
        return self._edit.read

    @property
    def lease(self) -> tuple[str, float]:
        """The token of the run's lease, and its length in seconds. Other processes that work for the run rely
        on this lease."""
        return self._lease.token, LENGTH

    def keep_alive(self) -> None:
        """Renews the run's lease, if it is time. The lease keeps garbage collection from the run's
        objects."""
        self._lease.keep_alive()

    @property
    def base(self) -> Revision:
        """The revision on which the next one is based."""
        return self._edit.base

    @property
    def root(self) -> ObjectRef:
        """The root catalog of the base revision."""
        return self._edit.base.root

    @property
    def published(self) -> Published:
        """The links of the base revision."""
        if self._published is None:
            self._published = Published(self._edit.tree)
        return self._published

    def put(self, changes: Mapping[str, Inode]) -> None:
        """Adds the changes for one image to the next revision. If the tree cannot have them, adds none and
        raises UsageError."""
        if self._trial is None:
            self._trial = LiveTree(self._edit.tree, self._edit.base.params)
        for path, inode in changes.items():
            self._trial.put(path, inode)
        for path, inode in changes.items():
            self._edit.put(path, inode)
        self.waiting += 1
        self._news = True

    def remove(self, paths: Iterable[str]) -> None:
        """Removes the links at these paths from the tree, and with them the images' trees, layers and
        metadata that no other link leads to."""
        gone = [path for path in paths if path.split("/", 1)[0].encode() not in INTERNAL]
        self._edit.apply(lambda live: remove_images(live, gone))
        self.waiting += 1
        self._news = True

    def tidy(self) -> None:
        """Removes the trees and layers that no name leads to any more because tags have moved."""
        self._edit.apply(remove_untagged)
        self.waiting += 1

    def commit(self, paths: Iterable[str]) -> bool:
        """Commits the changes as the next revision; returns False if there were none, or if they changed
        nothing. Raises as Edit.commit.

        `paths`: the places of all images that the tree will have. The links between folders that these places
        need, such as one for another spelling of a registry, are made too.
        """
        if not self.waiting:
            return False
        for path, target in folder_links(paths).items():
            entry = self.published.entry(path)
            if entry is None:
                self._edit.put(path, link(link_target(path, target), 0))
        if self._last_update and self._news:
            self._edit.put(*self._last_update_file())
        _, changed = self._edit.commit()
        self._trial = self._published = None
        self.waiting = 0
        self._news = False
        return changed

    def _last_update_file(self) -> tuple[str, Inode]:
        """Returns the folder of the file lastUpdate: (the folder's path, its inode). The file has one line:
        `2026Nov29 13:05 | NAME | SECONDS`, the time of the revision, the repository's name, and the same time
        in seconds since 1970, as in ATLAS's own repositories."""
        now = self._now()
        line = f"{now:%Y%b%d %H:%M} | {self._edit.base.name} | {int(now.timestamp())}\n"
        folder, _, name = LAST_UPDATE.rpartition("/")
        inode = directory_of_files(
            {name.encode(): line.encode()}, int(now.timestamp()) * 10**9, self._edit.ingest
        )
        return folder, snapshot(inode, self._edit.base.params, self._edit.ingest)


class Onlooker(Committer):
    """Stands in for Committer in a dry run: reads the repository and writes nothing, not even a lease."""

    def __init__(self, store: Store) -> None:
        """Reads the newest revision of the store. Raises as `read_revision`."""
        self._store = store
        self._revision = read_revision(store)
        self._published = None
        self.waiting = 0

    def __enter__(self) -> "Onlooker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def keep_alive(self) -> None:
        pass

    @property
    def base(self) -> Revision:
        return self._revision

    @property
    def published(self) -> Published:
        if self._published is None:
            self._published = Published(StoredTree(RecentObjects(reader(self._store)), self._revision.root))
        return self._published
