"""Packs in a store: packs shared between layers and images, the cost of a rebuilt layer, and what `lazyfs
check` finds in wrong packs."""

import random
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from lazyfs.core import codec
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef, object_path, sha256
from lazyfs.core.params import Params
from lazyfs.core.reach import ObjectKind, catalog_at, walk
from lazyfs.images.snapshots import snapshot
from lazyfs.repository.diff import diff, resolve
from lazyfs.repository.edit import Edit
from tests.support.catalog_listing import Listed, open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, Repository

Files = dict[str, bytes]
LIMITS = Params(pack_files=64 << 10, pack_least=16 << 10, pack_target=64 << 10, pack_most=128 << 10)


def made(count: int, salt: str = "", size: int = 4000) -> Files:
    """Returns `count` files of about `size` bytes each, which compress to half."""
    chance = random.Random(f"{salt}{count}")
    return {
        f"{salt}d{number // 40:02}/f{number:04}": chance.randbytes(chance.randint(1, size)).hex().encode()
        for number in range(count)
    }


def tar(files: Files) -> bytes:
    return layer(*(entry(name, data=data) for name, data in files.items()))


class Site:
    """A repository with small packs, so that a small layer has many."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = Repository(directory, LIMITS)

    def publish(self, place: str, *layers: Files) -> Built:
        built = Built([tar(files) for files in layers])
        self.repository.publish(
            f"oci:{built.write_layout(self.directory / place)}", place=f"r.example/{place}"
        )
        return built

    def packs(self, place: str) -> set[ObjectRef]:
        """Returns the packs that an image refers to."""
        tree = open_tree(self.repository.path)
        top = resolve(tree, f"r.example/{place}").node.entry.nested
        assert top is not None
        return {one.ref for one in walk([catalog_at(top)], tree.read) if one.kind == ObjectKind.PACK}

    def listed(self, built: Built) -> Listed:
        return Listed(open_tree(self.repository.path), built.flat)

    def object(self, digest: Digest) -> Path:
        return self.repository.path / object_path(digest)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_is_published_is_read_and_checked(site: Site) -> None:
    files = made(300) | {"large": random.Random(1).randbytes(3 << 20), "empty": b""}
    listed = site.listed(site.publish("app:1", files))
    assert {name: listed.read(name.encode()) for name in files} == files
    for name, data in files.items():
        assert listed.entries[name.encode()].size == len(data)
        if 0 < len(data) <= LIMITS.pack_files:
            assert listed.entries[name.encode()].content == sha256(data)
    assert site.repository.check().bad == 0


def test_a_store_holds_a_tenth_of_the_files_that_it_serves(site: Site) -> None:
    """The store has less than a tenth as many files as the image. Format version 1 stored each distinct file
    as an object."""
    before = len(site.repository.files())
    site.publish("app:1", made(3000, size=600))
    assert len(site.repository.files()) - before < 3000 / 10


def test_publishing_twice_gives_the_same_root(tmp_path: Path) -> None:
    roots = []
    for side, level, workers in (("one", 3, 1), ("two", 9, 4)):
        (tmp_path / side).mkdir()
        repository = Repository(tmp_path / side, LIMITS)
        layout = Built([tar(made(200)), tar(made(50, "upper"))]).write_layout(tmp_path / side / "layout")
        report = repository.publish(f"oci:{layout}", place="r.example/app:1", level=level, workers=workers)
        roots.append(report.revision.root)
        assert not repository.publish(f"oci:{layout}", place="r.example/app:1").changed
    assert roots[0] == roots[1]


def test_stacked_images_share_every_pack_of_the_layers_they_share(site: Site) -> None:
    layers = [made(300, f"layer{number}") for number in range(4)]
    for count in range(1, 5):
        site.publish(f"app:{count}", *layers[:count])
    stacked = [site.packs(f"app:{count}") for count in range(1, 5)]
    assert all(lower < upper for lower, upper in pairwise(stacked))


def test_an_image_has_the_same_packs_published_first_or_last(site: Site, tmp_path: Path) -> None:
    layers = [made(100, "lower"), made(100, "upper")]
    site.publish("app:2", *layers)
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    other.publish("app:1", layers[0])
    other.publish("app:2", *layers)
    assert other.packs("app:2") == site.packs("app:2")


def test_a_rebuilt_layer_with_ten_changed_files_costs_at_most_twenty_packs(site: Site) -> None:
    files = made(3000)
    site.publish("app:1", files)
    before = site.packs("app:1")
    changed = dict(files)
    for name in random.Random(7).sample(sorted(files), 10):
        changed[name] = files[name][::-1] + b"!"
    site.publish("app:2", changed)
    new = site.packs("app:2") - before
    mean = sum(pack.size for pack in before) / len(before)
    assert 0 < sum(pack.size for pack in new) <= 20 * mean


def test_an_inserted_file_changes_one_pack_or_two(site: Site) -> None:
    files = made(1000)
    site.publish("app:1", files)
    before = site.packs("app:1")
    names = list(files)
    inserted = {}
    for name in names:
        inserted[name] = files[name]
        if name == names[500]:
            inserted["d12/new"] = b"new" * 1000
    site.publish("app:2", inserted)
    assert len(site.packs("app:2") - before) <= 2


def test_equal_contents_in_different_packs_are_no_difference(site: Site) -> None:
    files = made(100)
    one = site.publish("app:1", files)
    two = site.publish("app:2", made(1, "0before") | files)
    tree = open_tree(site.repository.path)
    name = b"d00/f0000"
    places = [site.listed(built).place(name) for built in (one, two)]
    assert places[0] != places[1]
    changes = list(diff(resolve(tree, "r.example/app:1"), resolve(tree, "r.example/app:2")))
    assert {change.path for change in changes} == {b"0befored00", b"0befored00/f0000"}


def test_a_wrong_byte_in_a_pack_is_found_with_a_path(site: Site) -> None:
    site.publish("app:1", made(100))
    pack = min(site.packs("app:1"))
    file = site.object(pack.digest)
    good = file.read_bytes()
    plain = codec.decode(good, pack.size)
    for damaged in (codec.encode(plain[:-1] + bytes([plain[-1] ^ 1])), good[:-1], codec.encode(plain + b"x")):
        file.write_bytes(damaged)
        (problem,) = site.repository.check().problems
        assert f": pack {pack.digest.hex()}: " in problem
        assert "/d0" in problem
    file.unlink()
    assert site.repository.check().bad == 1


def test_a_file_that_is_not_what_its_entry_says_is_found_in_a_right_pack(site: Site) -> None:
    """The pack is intact, but the entry of a file in it states a wrong digest or a wrong offset."""
    contents = [b"one", b"other", b"third"]
    plain = b"".join(contents)
    with Edit(site.repository.store, site.repository.keys, lambda: NOW) as edit:
        pack = edit.ingest.put(plain)
        root = Inode(0o40755)
        assert root.children is not None
        root.children[b"right"] = _packed(b"one", pack, 0)
        root.children[b"moved"] = _packed(b"other", pack, 2)
        root.children[b"another"] = _packed(b"THIRD", pack, 8)
        root.children[b"again"] = _packed(b"THIRD", pack, 8)
        edit.put("software/1", snapshot(root, LIMITS, edit.ingest))
        edit.commit()
    findings = site.repository.check()
    assert findings.bad == 2
    assert sorted(problem.partition(":")[0] for problem in findings.problems) == [
        "software/1/again",
        "software/1/moved",
    ]
    assert all("hash to" in problem for problem in findings.problems)


def _packed(content: bytes, pack: ObjectRef, offset: int) -> Inode:
    return Inode(0o100644, size=len(content), content=sha256(content), pack=pack, offset=offset)


def test_check_reads_a_pack_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish("app:1", made(500))
    site.publish("app:2", made(500), made(10, "upper"))
    reads: list[Digest] = []
    opened = codec.open_object

    def counting(frame: bytes, ref: ObjectRef) -> bytes:
        reads.append(ref.digest)
        return opened(frame, ref)

    monkeypatch.setattr(codec, "open_object", counting)
    findings = site.repository.check()
    packs = {pack.digest for pack in site.packs("app:1") | site.packs("app:2")}
    own = reads[: findings.objects]
    assert sorted(digest for digest in own if digest in packs) == sorted(packs)


def test_parameters_are_signed_and_decide(site: Site, tmp_path: Path) -> None:
    files = made(100)
    site.publish("app:1", files)
    (tmp_path / "other").mkdir()
    other = Repository(tmp_path / "other", msgspec.structs.replace(LIMITS, pack_target=32 << 10))
    built = Built([tar(files)])
    other.publish(f"oci:{built.write_layout(tmp_path / 'other/layout')}", place="r.example/app:1")
    listed = Listed(open_tree(other.path), built.flat)
    packs = {place.ref for path in listed.entries if (place := listed.place(path))}
    assert len(packs) > len(site.packs("app:1"))
