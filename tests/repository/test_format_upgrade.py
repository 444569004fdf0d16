"""A repository in format version 1: it is read, upgraded, and published into again.

`version1.tar.gz` holds files written by the last lazyfs of that version: `store` and `keys` of
old.example.org, the OCI layout `layout`, which was published as r.example/app:1, and the directory `tree`,
which was published as software/1.
"""

import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import Metadata, Targets

from lazyfs.core.digest import object_path, parse_hex, sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Params, Revision
from lazyfs.core.tree_paths import layer_path
from lazyfs.images.conversion import convert
from lazyfs.images.inspect import of_published
from lazyfs.images.publisher import PublishReport, publish
from lazyfs.repository import keys as key_files
from lazyfs.repository import lifecycle
from lazyfs.repository.commit import read_committed, read_revision
from lazyfs.repository.diff import diff, resolve
from lazyfs.repository.edit import Edit
from lazyfs.repository.format_upgrade import older_images, upgrade
from lazyfs.repository.keys import Keys
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, open_store
from lazyfs.store.check import check
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import lazyfs, mounted
from tests.support.repositories import OPTIONS

FIXTURE = Path(__file__).parent / "version1.tar.gz"
IMAGE, TREE = "r.example/app:1", "software/1"
CONTENTS = {
    b"etc/a": b"upper",
    b"etc/b": b"b" * 300,
    b"etc/hard": b"a" * 100,
    b"etc/same": b"b" * 300,
    b"large": bytes(number % 251 for number in range(10_000)),
}
"""Path -> content of the files in the image's layers."""


class Old:
    """The repository of version 1, unpacked."""

    def __init__(self, directory: Path) -> None:
        with tarfile.open(FIXTURE) as archive:
            archive.extractall(directory, filter="data")
        self.directory = directory
        self.path = directory / "store"
        (directory / "keys").chmod(0o700)

    @property
    def store(self) -> Store:
        return open_store(str(self.path))

    @property
    def keys(self) -> Keys:
        return key_files.load(str(self.directory / "keys"))

    @property
    def revision(self) -> Revision:
        return read_revision(self.store)

    @property
    def tree(self) -> StoredTree:
        return open_tree(self.path)

    def upgrade(self) -> Revision | None:
        return upgrade(self.store, self.keys, now())

    def publish(self, source: str, place: str) -> PublishReport:
        options = replace(OPTIONS, place=place, plain=False)
        return publish(self.store, self.keys, [source], options, now)

    def republish(self) -> None:
        self.publish(f"oci:{self.directory}/layout:v1", IMAGE)
        self.publish(f"dir:{self.directory}/tree", TREE)

    def listed(self, place: str = IMAGE) -> Listed:
        return Listed(self.tree, resolve(self.tree, place).path)

    def fingerprint(self) -> bytes:
        return sha256(read_committed(self.store).state.root_bytes[0])

    def signed_params(self) -> dict[str, object]:
        version = read_committed(self.store).proven.targets.version
        data = (self.path / f"metadata/{version}.targets.json").read_bytes()
        targets = Metadata[Targets].from_bytes(data).signed
        found: dict[str, object] = targets.targets["catalog"].custom["params"]
        return found


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path)


def right(old: Old) -> None:
    """Asserts that everything reads back as it was published."""
    listed = old.listed()
    assert {path: listed.read(path) for path in CONTENTS} == CONTENTS
    tree = old.listed(TREE)
    assert {path: tree.read(path) for path in (b"sub/f", b"g")} == {b"sub/f": b"f" * 50, b"g": b"g" * 5000}
    findings = check(old.store, old.revision.root)
    assert (findings.bad, findings.problems) == (0, [])


def test_a_repository_of_version_1_is_read_and_not_published_into(old: Old) -> None:
    right(old)
    before = old.revision
    with pytest.raises(UsageError, match="run `lazyfs repo upgrade STORE`"):
        old.republish()
    assert old.revision == before


def test_a_repository_of_version_1_is_mounted(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(old.directory / "run"))
    lifecycle.resign(old.store, old.keys, now())  # its timestamp expired long ago
    options = ("--trust", old.fingerprint().hex(), "--cache", old.directory / "cache")
    with mounted(old.path, old.directory / "mnt", *options) as mnt:
        for path, content in CONTENTS.items():
            assert (mnt / IMAGE / path.decode()).read_bytes() == content


def test_renewing_its_expiry_writes_nothing_that_its_clients_do_not_know(old: Old) -> None:
    before = old.signed_params()
    lifecycle.resign(old.store, old.keys, datetime(2030, 1, 1, tzinfo=UTC))
    assert old.signed_params() == before


def test_an_upgrade_keeps_name_keys_fingerprint_and_tree(old: Old) -> None:
    before, fingerprint = old.revision, old.fingerprint()
    new = old.upgrade()
    assert new is not None
    assert old.revision == new
    assert (new.name, new.number, new.root) == (before.name, before.number + 1, before.root)
    assert new.params == msgspec.structs.replace(before.params, version=Params().version)
    assert old.fingerprint() == fingerprint
    right(old)
    assert old.upgrade() is None
    assert old.revision == new


def test_what_has_the_older_format_is_named_until_it_is_published_again(old: Old) -> None:
    old.upgrade()
    assert list(older_images(old.tree)) == [IMAGE, TREE]
    old.publish(f"dir:{old.directory}/tree", TREE)
    assert list(older_images(old.tree)) == [IMAGE]
    old.republish()
    assert list(older_images(old.tree)) == []


def test_what_is_published_again_is_packed_and_the_same_otherwise(old: Old) -> None:
    old.upgrade()
    before = old.tree
    old.republish()
    right(old)
    listed = old.listed()
    packed = {path for path in CONTENTS if listed.entries[path].pack_number >= 0}
    assert packed == set(CONTENTS) - {b"large"}
    for place in (IMAGE, TREE):
        assert list(diff(resolve(before, place), resolve(old.tree, place))) == []
    assert not old.publish(f"oci:{old.directory}/layout:v1", IMAGE).changed


def test_an_image_of_version_1_is_compared_with_its_source_when_it_is_published_again(old: Old) -> None:
    old.upgrade()
    against = ("check", old.path, "--against", f"oci:{old.directory}/layout:v1", "--as", IMAGE)
    before = lazyfs(*against, check=False)
    assert before.returncode == 1
    assert "publish the image again" in before.stderr
    old.republish()
    lazyfs(*against)


def test_an_image_is_converted_to_what_publishing_it_again_gives(old: Old, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Old(tmp_path / "other")
    warnings: list[str] = []
    for one in (old, other):
        one.upgrade()
    before = old.tree
    assert list(convert(old.store, old.keys, now, warnings.append)) == [(IMAGE, True), (TREE, False)]
    other.publish(f"oci:{other.directory}/layout:v1", IMAGE)
    assert old.revision.root == other.revision.root
    assert warnings == []
    right(old)
    assert list(diff(resolve(before, IMAGE), resolve(old.tree, IMAGE))) == []
    assert list(convert(old.store, old.keys, now, warnings.append)) == [(TREE, False)]


def test_an_image_with_a_damaged_file_stays_as_it_is(old: Old) -> None:
    old.upgrade()
    before = old.revision.root
    (old.path / object_path(sha256(CONTENTS[b"etc/b"]))).unlink()
    warnings: list[str] = []
    assert list(convert(old.store, old.keys, now, warnings.append)) == [(IMAGE, False), (TREE, False)]
    assert len(warnings) == 1
    assert old.revision.root == before


def test_an_image_without_its_layers_records_stays_as_it_is(old: Old) -> None:
    old.upgrade()
    first = of_published(old.tree, IMAGE).layers[0].diff_id
    with Edit(old.store, old.keys, now) as edit:
        edit.remove(layer_path(parse_hex(first)))
        edit.commit()
    assert list(convert(old.store, old.keys, now, print)) == [(IMAGE, False), (TREE, False)]
    right(old)


def test_the_upgrade_command_says_what_is_to_be_published_again(old: Old) -> None:
    keys = old.directory / "keys"
    run: Callable[[], str] = lambda: lazyfs("repo", "upgrade", old.path, "--keys", keys).stdout  # noqa: E731
    first = run()
    assert "old.example.org revision 4 is now of format version 2" in first
    assert f"converted {IMAGE}" in first
    assert first.splitlines()[-2].endswith("into packs:")
    assert first.splitlines()[-1].strip() == TREE
    assert "format       version 2" in lazyfs("repo", "show", old.path).stdout
    again = run()
    assert "revision 5 is already of format version 2" in again
    assert "converted" not in again
    assert read_revision(old.store).number == 5
    old.republish()
    assert "publish them again" not in run()
