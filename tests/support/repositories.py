"""Repositories made in this process. This is quicker than the command, for tests that make many."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lazyfs.core.oci.manifest import Platform
from lazyfs.core.params import Params
from lazyfs.images.publisher import PublishOptions, PublishReport, publish
from lazyfs.images.sources.open import ImageOptions
from lazyfs.repository import keys as key_files
from lazyfs.repository import lifecycle
from lazyfs.repository.commit import read_revision
from lazyfs.repository.keys import Keys
from lazyfs.store import Store, open_store
from lazyfs.store.check import CheckFindings, check
from lazyfs.store.directory import DirectoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = PublishOptions(ImageOptions(Platform("linux", "amd64")), plain=True)


class StillStore(DirectoryStore):
    """A store directory whose clock always shows NOW, like that of the tests' publishers."""

    def now(self) -> float:
        return NOW.timestamp()


class Repository:
    """A new repository in a directory, with methods to publish into it and check it."""

    def __init__(self, directory: Path, params: Params | None = None, made: datetime = NOW) -> None:
        """`made` is the time at which the repository is created."""
        self.path = directory / "store"
        lifecycle.init(str(self.path), "test.example.org", made, keys=str(directory / "keys"), params=params)
        self.keys: Keys = key_files.load(str(directory / "keys"))
        self.keys_path = directory / "keys"

    @property
    def store(self) -> Store:
        return StillStore(str(self.path))

    def publish(
        self, *sources: str, now: Callable[[], datetime] | None = None, **options: object
    ) -> PublishReport:
        """Publishes the sources. Adds no files to them, unless `plain=False`. `now` is a clock that runs in
        step with the filesystem's; without it, the time is always NOW."""
        store = open_store(str(self.path)) if now else self.store
        chosen = replace(OPTIONS, **options)  # type: ignore[arg-type]
        return publish(store, self.keys, sources, chosen, now or (lambda: NOW))

    def publish_files(self, files: Mapping[str, bytes], tree: Path, place: str) -> PublishReport:
        """Writes files, contents by path, below the directory `tree`, and publishes it by today's clock."""
        for name, data in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(data)
        return self.publish(f"dir:{tree}", place=place, now=lambda: datetime.now(UTC))

    def check(self) -> CheckFindings:
        """Returns the findings of `lazyfs check`."""
        store = self.store
        revision = read_revision(store)
        return check(store, revision.root, history=revision.history)

    def files(self) -> list[Path]:
        """Returns every file under the store except its lock."""
        return sorted(path for path in self.path.rglob("*") if path.is_file() and path.name != ".lock")
