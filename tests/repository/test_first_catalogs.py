"""A revision names the catalogs of its folders, unless they are many: a client fetches them along with the
root catalog."""

from pathlib import Path

import pytest
from tuf.api.metadata import Targets

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, ObjectRef, object_path
from lazyfs.core.params import Params, Revision
from lazyfs.core.trust.errors import Malformed
from lazyfs.core.trust.revision_target import from_targets, to_target
from lazyfs.images.snapshots import directory_of_files, snapshot
from lazyfs.repository.commit import read_revision
from lazyfs.repository.edit import Edit
from lazyfs.repository.first_catalogs import first_catalogs
from tests.support.catalog_listing import open_tree
from tests.support.repositories import NOW, Repository

REF = ObjectRef(Digest(bytes(32)), 10)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def put(repository: Repository, *paths: str) -> None:
    with Edit(repository.store, repository.keys, lambda: NOW) as edit:
        for path in paths:
            files = directory_of_files({b"f": path.encode()}, 0, edit.ingest)
            edit.put(path, snapshot(files, edit.base.params, edit.ingest))
        edit.commit()


def catalogs(repository: Repository, *paths: str) -> list[ObjectRef]:
    tree = open_tree(repository.path)
    nodes = [tree.find(path) for path in paths]
    return [node.entry.nested for node in nodes if node is not None and node.entry.nested]


def test_a_revision_names_its_folders_from_the_top_down(repository: Repository) -> None:
    put(repository, "r.example/team/app:1", "software/1", ".flat/ab/ab12", ".layers/cd/cd34")
    found = read_revision(repository.store).first_catalogs
    wanted = catalogs(repository, ".flat", "r.example", "software", ".flat/ab", "r.example/team")
    assert sorted(found[:3]) == sorted(wanted[:3])
    assert sorted(found) == sorted(wanted)


def test_a_level_of_many_folders_is_left_out(repository: Repository) -> None:
    put(repository, *(f"r.example/team{at}/app:1" for at in range(bounds.FIRST_CATALOGS)))
    assert list(read_revision(repository.store).first_catalogs) == catalogs(repository, "r.example")


def test_a_damaged_folder_ends_the_search_and_nothing_else(repository: Repository) -> None:
    put(repository, "r.example/team/app:1")
    (top,) = catalogs(repository, "r.example")
    (repository.path / object_path(top.digest)).write_bytes(b"damaged")
    assert list(first_catalogs(open_tree(repository.path))) == [top]


def revision(*first: ObjectRef) -> Revision:
    return Revision("n.example", 2, 5, REF, Params(), None, first)


def read(made: Revision) -> Revision:
    return from_targets(Targets(1, "1.0.31", NOW, {"catalog": to_target(made)}))


@pytest.mark.parametrize("count", [0, 1, bounds.FIRST_CATALOGS])
def test_what_is_signed_is_read(count: int) -> None:
    made = revision(*[REF] * count)
    assert read(made) == made


@pytest.mark.parametrize(
    "first",
    [
        [REF] * (bounds.FIRST_CATALOGS + 1),
        [ObjectRef(Digest(bytes(32)), 0)],
        [ObjectRef(Digest(bytes(32)), bounds.OBJECT + 1)],
        [ObjectRef(Digest(bytes(31)), 1)],
    ],
)
def test_numbers_beyond_the_bounds_are_refused(first: list[ObjectRef]) -> None:
    with pytest.raises(Malformed):
        read(revision(*first))
