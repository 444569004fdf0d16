"""A store with a repository, filled with trees that a test has built itself, without the publisher's readers
of images."""

from datetime import UTC, datetime
from pathlib import Path

from lazyfs.core import codec
from lazyfs.core.catalog.inode import Nested
from lazyfs.repository import keys, lifecycle
from lazyfs.repository.commit import commit_revision, read_revision
from lazyfs.store import open_store
from tests.support.images import Objects


class Published:
    """A repository in `directory/store` with its keys in `directory/keys`."""

    def __init__(self, directory: Path, name: str = "test.example.org") -> None:
        self.store = directory / "store"
        self.keys = directory / "keys"
        self.name = name
        self.objects = Objects()
        directory.mkdir(exist_ok=True)
        lifecycle.init(str(self.store), name, datetime.now(UTC), keys=str(self.keys))
        self._directory_store = open_store(str(self.store))

    def commit(self, root: Nested) -> int:
        """Stores all objects, makes `root` the newest revision, and returns its number."""
        for digest, plain in self.objects.items():
            self._directory_store.put(digest, codec.encode(plain))
        before = read_revision(self._directory_store)
        done = commit_revision(
            self._directory_store,
            keys.load(str(self.keys)),
            root.ref,
            expected_revision=before.number,
            now=datetime.now(UTC),
        )
        return done.number
