"""The order of a publish's writes, and its behaviour when another publish commits first."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from lazyfs.core import codec
from lazyfs.core.digest import Digest
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Params, Revision
from lazyfs.images.publisher import publish
from lazyfs.repository import collection_state, edit
from lazyfs.repository.commit import commit_revision, read_committed
from lazyfs.repository.committed import CommittedRevision
from lazyfs.repository.edit import REBASES
from lazyfs.store import StoreConflict
from lazyfs.store.directory import DirectoryStore
from tests.support.catalog_listing import open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, OPTIONS, Repository, StillStore


class Recording(StillStore):
    """A directory store that records its calls, except those for leases."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.events: list[tuple[str, bytes]] = []

    def put(self, digest: Digest, frame: bytes) -> None:
        self.events.append(("put", digest))
        super().put(digest, frame)

    def sync(self) -> None:
        self.events.append(("sync", b""))
        super().sync()

    def write_metadata(self, name: str, data: bytes, *, expected: bytes | None) -> None:
        if name != collection_state.FILE:
            self.events.append(("metadata", name.encode()))
        super().write_metadata(name, data, expected=expected)


def image(tmp_path: Path, name: str) -> str:
    content = os.urandom(5000)
    return f"oci:{Built([layer(entry('f', data=content))]).write_layout(tmp_path / name)}"


def test_objects_then_catalogs_then_sync_then_the_pointer(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    store = Recording(str(repository.path))
    options = replace(OPTIONS, place="r.example/x:1")
    report = publish(store, repository.keys, [image(tmp_path, "a")], options, lambda: NOW)
    kinds = [kind for kind, _ in store.events]
    first = kinds.index("metadata")
    assert kinds[first:] == ["metadata"] * 3
    assert store.events[-1] == ("metadata", b"timestamp.json")
    assert kinds[first - 1] == "sync"
    puts = [digest for kind, digest in store.events if kind == "put"]
    assert report.revision.history
    # No object is written after the catalog that names it; the history names the root catalog.
    assert puts[-2:] == [report.revision.root.digest, report.revision.history.digest]
    catalogs = [plain(store, digest)[:6] for digest in puts[:-1]]
    content = [number for number, magic in enumerate(catalogs) if magic != b"LZFCAT"]
    assert max(content) < len(puts) - 6  # the folders' catalogs come after all content


def plain(store: DirectoryStore, digest: bytes) -> bytes:
    frame = store.get(Digest(digest))
    return codec.decode(frame, zstandard.get_frame_parameters(frame).content_size)


def test_a_publish_that_is_overtaken_keeps_the_other_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path)
    real = commit_revision
    overtaken = 0

    def late(*arguments: Any, **named: Any) -> Revision:
        nonlocal overtaken
        overtaken += 1
        if overtaken == 1:
            repository.publish(image(tmp_path, "other"), place="r.example/other:1")
        return real(*arguments, **named)

    monkeypatch.setattr(edit, "commit_revision", late)
    report = repository.publish(image(tmp_path, "mine"), place="r.example/mine:1")
    assert report.revision.number == 3
    tree = open_tree(repository.path)
    assert tree.find("r.example/mine:1")
    assert tree.find("r.example/other:1")
    assert repository.check().bad == 0


def test_a_publish_that_is_overtaken_forever_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path)
    before = read_committed(repository.store)
    calls = 0
    numbers = iter(range(1, 100))

    def never(*_arguments: Any, **_named: Any) -> Revision:
        nonlocal calls
        calls += 1
        raise StoreConflict("another publisher was first")

    class Moving(CommittedRevision):
        @property
        def revision(self) -> Revision:
            return msgspec.structs.replace(super().revision, number=next(numbers))

    def moving(_store: DirectoryStore, _known: CommittedRevision | None = None) -> CommittedRevision:
        return Moving(before.state, before.proven)

    monkeypatch.setattr(edit, "commit_revision", never)
    monkeypatch.setattr(edit, "read_committed", moving)
    with pytest.raises(UsageError, match="another publisher was first"):
        repository.publish(image(tmp_path, "mine"), place="r.example/mine:1")
    assert calls == REBASES + 1


def test_the_repositorys_parameters_count_not_the_publishers(tmp_path: Path) -> None:
    repository = Repository(tmp_path, Params(chunk_shift=12, catalog_entries=16))
    files = [entry(f"d/f{number}", data=os.urandom(5000)) for number in range(40)]
    made = Built([layer(*files)])
    repository.publish(f"oci:{made.write_layout(tmp_path / 'i')}", place="r.example/x:1")
    tree = open_tree(repository.path)
    found = tree.find(f"{made.flat}/d/f7")
    assert found is not None
    assert found.entry.detail == 12
    directory = tree.find(f"{made.flat}/d")
    assert directory is not None
    assert directory.entry.nested
    assert tree.file(f"{made.flat}/d/f7") == files[7][1]
