"""The tree of a revision, as publishers read it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import reader
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository


class Unwalked(tuple[Any, ...]):
    """A sequence that must not be iterated: with 10,000 images, each pass would take 10,000 steps."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("the totals of all nested catalogs are walked for one of them")


def test_the_totals_of_a_nested_catalog_are_found_without_a_walk_over_all(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    for name in ("a", "b", "c"):
        layout = Built([layer(entry(name, data=name.encode() * 9))]).write_layout(tmp_path / name)
        repository.publish(f"oci:{layout}", place=f"r.example/{name}:1")
    store = repository.store
    tree = StoredTree(reader(store), read_revision(store).root)
    folder = tree.find(".metadata/r.example")
    assert folder is not None
    catalog = folder.catalog
    nested = dict(catalog.header.nested)
    header = SimpleNamespace(nested=Unwalked(catalog.header.nested))
    stub: Any = SimpleNamespace(header=header, packs=catalog.packs)
    directory = catalog.directory(folder.number)
    assert len(nested) == len(directory.entries) == 3
    for position, one in enumerate(directory.entries):
        index = directory.first + position
        made = tree.inode(one, stub, index)
        assert made.nested is not None
        assert made.nested.totals == nested[index]
