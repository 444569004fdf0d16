"""An edit of the tree: several changes, several commits, and other publishers in between."""

import errno
import os
from pathlib import Path

import pytest

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Revision
from lazyfs.images.snapshots import directory_of_files, link, snapshot
from lazyfs.repository.collection_state import read_state
from lazyfs.repository.commit import read_revision
from lazyfs.repository.edit import Edit
from lazyfs.store import StoreConflict, StoreError
from tests.support.catalog_listing import open_tree
from tests.support.overtaking import overtake
from tests.support.repositories import NOW, Repository, StillStore


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def edit(repository: Repository) -> Edit:
    return Edit(repository.store, repository.keys, lambda: NOW)


def tree_of(edit: Edit, content: bytes) -> Inode:
    return snapshot(directory_of_files({b"f": content}, 0, edit.ingest), edit.base.params, edit.ingest)


def put(repository: Repository, path: str, content: bytes) -> Revision:
    with edit(repository) as own:
        own.put(path, tree_of(own, content))
        return own.commit().revision


def content(repository: Repository, path: str) -> bytes | None:
    tree = open_tree(repository.path)
    return tree.file(f"{path}/f") if tree.find(path) else None


def test_changes_are_one_revision_and_the_same_ones_again_are_none(repository: Repository) -> None:
    for number, changed in ((2, True), (2, False)):
        with edit(repository) as own:
            own.put("a/one", tree_of(own, b"1"))
            own.put("b/two", link("../a/one", 0))
            result = own.commit()
        assert (result.revision.number, result.changed) == (number, changed)
        assert read_revision(repository.store) == result.revision
    assert content(repository, "a/one") == b"1"


def test_an_edit_goes_on_from_what_it_has_committed(repository: Repository) -> None:
    with edit(repository) as own:
        for number in range(3):
            own.put(f"a/{number}", tree_of(own, b"%d" % number))
            own.remove(f"a/{number - 2}")
            assert own.commit().revision.number == own.base.number == number + 2
        assert own.tree.find("a/2")
        assert own.commit().changed is False
    assert [content(repository, f"a/{number}") for number in range(3)] == [None, b"1", b"2"]
    assert repository.check().bad == 0


def test_a_committed_change_is_not_made_again(repository: Repository) -> None:
    with edit(repository) as own:
        own.put("a/one", tree_of(own, b"1"))
        own.commit()
        with edit(repository) as other:
            other.remove("a/one")
            other.commit()
        own.put("a/two", tree_of(own, b"2"))
        own.commit()
    assert [content(repository, path) for path in ("a/one", "a/two")] == [None, b"2"]


def test_a_removal_takes_empty_folders_along_and_what_is_gone_is_no_change(repository: Repository) -> None:
    put(repository, "a/b/c", b"1")
    put(repository, "a/d", b"2")
    for changed in (True, False):
        with edit(repository) as own:
            own.remove("a/b/c")
            assert own.commit().changed is changed
    tree = open_tree(repository.path)
    assert tree.find("a/b") is None
    assert content(repository, "a/d") == b"2"


@pytest.mark.parametrize("other", ["put", "removed", "the same"])
def test_an_edit_that_is_overtaken_is_applied_to_the_newer_revision(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    put(repository, "a/old", b"old")
    with edit(repository) as own:
        own.put("a/mine", tree_of(own, b"mine"))
        own.remove("a/old")

        def overtaking() -> None:
            if other == "put":
                put(repository, "a/theirs", b"theirs")
                return
            with edit(repository) as their:
                their.remove("a/old")
                if other == "the same":
                    their.put("a/mine", tree_of(their, b"mine"))
                their.commit()

        overtake(monkeypatch, overtaking)
        result = own.commit()
    assert result.changed is (other != "the same")
    assert result.revision == read_revision(repository.store)
    found = [content(repository, path) for path in ("a/mine", "a/old", "a/theirs")]
    assert found == [b"mine", None, b"theirs" if other == "put" else None]
    assert repository.check().bad == 0


def test_a_change_that_the_newer_tree_cannot_take_is_refused(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edit(repository) as own:
        own.put("a/mine", tree_of(own, b"mine"))
        overtake(monkeypatch, lambda: put(repository, "a", b"theirs"))
        with pytest.raises(UsageError, match="a is an image"):
            own.commit()
    assert content(repository, "a") == b"theirs"


def test_a_failed_edit_leaves_nothing_of_what_it_has_put(repository: Repository) -> None:
    before = repository.files()
    with pytest.raises(UsageError, match="in the repository"):
        put(repository, "a/../b", b"mine")
    assert repository.files() == before


def test_a_store_that_another_publisher_holds_ends_the_edit(repository: Repository) -> None:
    before = read_revision(repository.store)
    impatient = StillStore(str(repository.path), lock_wait=0)
    with Edit(impatient, repository.keys, lambda: NOW) as own:
        own.put("a", tree_of(own, b"1"))
        with repository.store.exclusive(), pytest.raises(StoreConflict, match="held by another publisher"):
            own.commit()
    assert read_revision(repository.store) == before


def test_a_disk_that_gets_full_in_a_commit_is_said_and_holds_nobody_up(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: files that had their names already could not be dropped, so that the operator read "No such
    file", collections waited for the lease, and each later publish through the same store failed."""
    store = repository.store
    rename, unlink = os.rename, os.unlink

    def fail(source: str, target: str) -> None:
        if "/data/" in target and next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)
        rename(source, target)

    def refuse(path: str) -> None:
        if "/.tmp/" in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        unlink(path)

    def publish(number: int) -> bool:
        with Edit(store, repository.keys, lambda: NOW) as own:
            for part in range(8):
                own.ingest.put(b"%d %d" % (number, part))
            own.put("a/one", tree_of(own, b"1"))
            return own.commit().changed

    for number in range(2):
        left = iter(range(3))
        with monkeypatch.context() as full:
            full.setattr(os, "rename", fail)
            if number:  # nor can the temporary files be deleted
                full.setattr(os, "unlink", refuse)
            with pytest.raises(StoreError, match="No space left on device"):
                publish(number)
        assert read_state(store).leases == ()
    assert "temporary files of this publish stay" in caplog.text
    assert publish(2)
    assert repository.check().bad == 0
