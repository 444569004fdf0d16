"""The removal of images. The name of an image is removed at once, and its parts (layers, metadata) with the
last name that needs them. Nothing else is removed."""

from pathlib import Path

import pytest

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import parse_hex
from lazyfs.core.errors import UsageError
from lazyfs.core.tree_paths import layer_path, metadata_path
from lazyfs.images.snapshots import directory_of_files, link, snapshot
from lazyfs.repository.edit import Edit
from lazyfs.repository.history import revisions
from lazyfs.repository.removal import remove_images, remove_untagged
from lazyfs.repository.rollback import roll_back
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import reader
from tests.support.memory_repository import MemoryRepository
from tests.support.oci_images import Built, entry, layer
from tests.support.overtaking import overtake

BASE = layer(entry("base", data=b"base"))


class Site:
    """A repository with two images, a and b, on the same base layer."""

    def __init__(self, directory: Path) -> None:
        self.repository = MemoryRepository(keep_days=0)
        self.images = {name: Built([BASE, layer(entry(name))]) for name in "ab"}
        self.layouts = {name: image.write_layout(directory / name) for name, image in self.images.items()}

    def publish(self, name: str, place: str) -> None:
        self.repository.publish(self.layouts[name], place)

    def remove(self, *places: str, untagged: bool = False) -> bool:
        def change(edit: Edit) -> None:
            edit.apply(lambda tree: remove_images(tree, places))
            if untagged:
                edit.apply(remove_untagged)

        return self.repository.edit(self.repository.store(), change).changed

    def there(self, path: str) -> bool:
        return (
            StoredTree(reader(self.repository.store()), self.repository.newest().root).find(path) is not None
        )

    def parts(self, name: str, place: str) -> dict[str, bool]:
        """Returns kind of part -> True if the tree has the image's part of this kind."""
        image = self.images[name]
        base, own = (layer_path(parse_hex(diff_id)) for diff_id in image.diff_ids)
        paths = {
            "name": place,
            "metadata": metadata_path(place),
            "flat": image.flat,
            "base": base,
            "own": own,
        }
        return {part: self.there(path) for part, path in paths.items()}

    def check(self) -> None:
        newest = self.repository.newest()
        assert self.repository.problems(newest.root) == []


GONE = dict.fromkeys(("name", "metadata", "flat", "base", "own"), False)
WHOLE = dict.fromkeys(GONE, True)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_last_image_of_a_layer_takes_it_along_and_a_shared_one_stays(site: Site) -> None:
    site.publish("a", "r.example/x:a")
    site.publish("b", "r.example/x:b")
    site.remove("r.example/x:a")
    assert site.parts("a", "r.example/x:a") == GONE | {"base": True}
    assert site.parts("b", "r.example/x:b") == WHOLE
    site.remove("r.example/x:b")
    assert site.parts("b", "r.example/x:b") == GONE
    root = StoredTree(reader(site.repository.store()), site.repository.newest().root)
    assert root.entries(root.root()) == []
    site.check()


def test_an_image_stays_as_long_as_one_of_its_names(site: Site) -> None:
    for place in ("r.example/x:1", "s.example/y:1"):
        site.publish("a", place)
    site.remove("r.example/x:1")
    assert site.parts("a", "s.example/y:1") == WHOLE
    assert not site.there("r.example")
    site.remove("s.example/y:1")
    assert site.parts("a", "s.example/y:1") == GONE


def test_a_link_of_another_layout_is_a_name_too(site: Site) -> None:
    """A link below `.multiarch` counts as a name, although it has no metadata of its own."""
    site.publish("a", "r.example/x:1")
    target = f"../../../{site.images['a'].flat}"
    other = ".multiarch/amd64/r.example/x:1"
    site.repository.edit(site.repository.store(), lambda edit: edit.put(other, link(target, 0)))
    site.publish("b", "r.example/x:2")
    site.remove("r.example/x:1")
    assert site.parts("a", other) == WHOLE | {"metadata": False}
    site.remove("r.example/x:2")  # nobody can know the layers of the other image, so no layer goes
    assert site.parts("b", "r.example/x:2") == GONE | {"base": True, "own": True}
    site.remove(other, untagged=True)
    assert site.parts("a", other) == GONE
    assert site.parts("b", other) == GONE


def test_a_tag_that_moved_leaves_its_image_until_the_untagged_go(site: Site) -> None:
    site.publish("a", "r.example/x:1")
    site.publish("b", "r.example/x:1")
    assert site.parts("a", "r.example/x:1") == WHOLE
    site.remove(untagged=True)
    assert site.parts("a", "r.example/x:1") == WHOLE | {"flat": False, "own": False}
    assert site.parts("b", "r.example/x:1") == WHOLE
    assert site.remove(untagged=True) is False


def test_untagged_images_in_their_grace_stay(site: Site) -> None:
    site.publish("a", "r.example/x:1")
    site.publish("b", "r.example/x:1")
    keep = [site.images["a"].flat]
    site.repository.edit(
        site.repository.store(), lambda edit: edit.apply(lambda tree: remove_untagged(tree, keep))
    )
    assert site.there(site.images["a"].flat)
    site.remove(untagged=True)
    assert not site.there(site.images["a"].flat)


def test_a_published_tree_goes_alone(site: Site) -> None:
    def put(edit: Edit) -> None:
        made: Inode = snapshot(
            directory_of_files({b"f": b"f"}, 0, edit.ingest), edit.base.params, edit.ingest
        )
        edit.put("software/2026", made)

    site.publish("a", "r.example/x:1")
    site.repository.edit(site.repository.store(), put)
    site.remove("software/2026")
    assert not site.there("software")
    assert site.parts("a", "r.example/x:1") == WHOLE


def test_a_part_of_images_goes_with_their_names_only(site: Site) -> None:
    site.publish("a", "r.example/x:1")
    base = layer_path(parse_hex(site.images["a"].diff_ids[0]))
    for part in (site.images["a"].flat, base):
        with pytest.raises(UsageError, match="is a part of images"):
            site.remove(part)
    site.remove("r.example/x:1", metadata_path("r.example/x:1"))
    assert site.parts("a", "r.example/x:1") == GONE


def test_what_is_not_there_is_no_change(site: Site) -> None:
    site.publish("a", "r.example/x:1")
    before = site.repository.newest()
    assert site.remove("r.example/x:2", "never/there") is False
    assert site.repository.newest() == before


def test_a_removal_that_is_overtaken_spares_what_the_other_publisher_needs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish("a", "r.example/x:a")
    overtake(monkeypatch, lambda: site.publish("b", "r.example/x:b"))
    site.remove("r.example/x:a")
    assert site.parts("a", "r.example/x:a") == GONE | {"base": True}
    assert site.parts("b", "r.example/x:b") == WHOLE
    site.check()


def test_a_publish_that_is_overtaken_by_a_removal_brings_its_layers_along(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree from which the publish started had the base layer, so the publish did not read that layer
    again. Then a removal takes the layer out."""
    site.publish("a", "r.example/x:a")

    def removed() -> None:
        site.remove("r.example/x:a")
        site.repository.pass_time(60)
        site.repository.collect(wait=0)

    overtake(monkeypatch, removed)
    site.publish("b", "r.example/x:b")
    assert site.parts("b", "r.example/x:b") == WHOLE
    site.repository.pass_time(60)
    site.repository.collect()
    site.check()
    site.publish("a", "r.example/x:a")  # merged from the records of the layer that was kept
    site.check()


def test_history_tells_what_came_went_moved_and_was_rolled_back(site: Site) -> None:
    site.publish("a", "r.example/x:1")
    site.publish("b", "r.example/x:1")
    site.publish("a", "r.example/x:2")
    site.remove("r.example/x:1")
    roll_back(site.repository.store(), site.repository.keys, "2", site.repository.now)
    a, b = (parse_hex(site.images[name].flat[-64:]) for name in "ab")
    found = [
        (
            past.number,
            past.restored,
            [(change.kind, change.path, change.old, change.new) for change in past.changes],
        )
        for past in revisions(site.repository.store())
    ]
    one, two = b"r.example/x:1", b"r.example/x:2"
    assert found == [
        (6, 2, [("came", one, b"", a), ("went", two, a, b"")]),
        (5, 0, [("went", one, b, b"")]),
        (4, 0, [("came", two, b"", a)]),
        (3, 0, [("moved", one, a, b)]),
        (2, 0, [("came", one, b"", a)]),
        (1, 0, []),
    ]
