"""A timestamp announces the catalogs of its revision, so that they are fetched along with snapshot and
targets. The announcement decides nothing else."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tuf.api.metadata import Metadata, Timestamp

from lazyfs.core.digest import ObjectRef, object_path, ref_of
from lazyfs.core.trust.announced_catalogs import BYTES, FIELD
from lazyfs.core.trust.errors import WrongKey
from lazyfs.repository import keys
from lazyfs.repository.commit import read_committed, read_revision, write_timestamp
from lazyfs.repository.lifecycle import resign
from lazyfs.store import open_store
from tests.support.cli import mounted, status
from tests.support.fault_server import FaultServer, of_directory
from tests.support.images import image, live
from tests.support.repositories import NOW, Repository
from tests.support.repository import Published
from tests.support.simulated_repository import SimulatedRepository

REFS = (ref_of(b"root"), ref_of(b"folder"))


def field(*refs: ObjectRef) -> list[list[Any]]:
    return [[ref.digest.hex(), ref.size] for ref in refs]


def announce(repository: SimulatedRepository, value: Any) -> None:
    repository.timestamp.unrecognized_fields[FIELD] = value
    repository.publish()


def announced_by(store: Path) -> list[list[Any]]:
    """Returns the field of the timestamp in a store."""
    data = (store / "metadata/timestamp.json").read_bytes()
    found: list[list[Any]] = Metadata[Timestamp].from_bytes(data).signed.unrecognized_fields[FIELD]
    return found


def test_a_timestamp_announces_the_catalogs_that_its_revision_names(tmp_path: Path) -> None:
    published = Published(tmp_path / "published")
    files = image(published.objects, {"f": b"1"})
    published.commit(live(published.objects, {"r.example": {"app:1": files}}))
    revision = read_revision(open_store(str(published.store)))
    assert announced_by(published.store) == field(revision.root, *revision.first_catalogs)


def test_a_renewed_timestamp_announces_them_too(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    before = announced_by(repository.path)
    resign(repository.store, repository.keys, NOW)
    assert announced_by(repository.path) == before == field(read_revision(repository.store).root)


def test_they_are_told_before_snapshot_and_targets_are_asked_for(
    repository: SimulatedRepository, tmp_path: Path
) -> None:
    announce(repository, field(*REFS))
    told: list[tuple[tuple[ObjectRef, ...], list[str]]] = []
    client = repository.client(
        tmp_path, on_announced=lambda refs: told.append((refs, sorted(repository.fetched())))
    )
    assert repository.refresh(client) == repository.revision
    assert told == [(REFS, ["2.root.json", "timestamp.json"])]


def test_nothing_is_told_of_a_revision_that_is_trusted_already(
    repository: SimulatedRepository, tmp_path: Path
) -> None:
    announce(repository, field(*REFS))
    told: list[tuple[ObjectRef, ...]] = []
    client = repository.client(tmp_path, on_announced=told.append)
    repository.refresh(client)
    told.clear()
    repository.refresh(client)
    repository.resign()
    repository.refresh(client)
    assert told == []


def test_nothing_is_told_of_a_timestamp_that_its_key_has_not_signed(
    repository: SimulatedRepository, tmp_path: Path
) -> None:
    announce(repository, field(*REFS))
    repository.files["timestamp.json"] = repository.sign(
        repository.timestamp, SimulatedRepository().signers["timestamp"]
    )
    told: list[tuple[ObjectRef, ...]] = []
    with pytest.raises(WrongKey):
        repository.refresh(repository.client(tmp_path, on_announced=told.append))
    assert told == []


@pytest.mark.parametrize(
    "value",
    [
        "all",
        [["zz", 3]],
        [["ab" * 32]],
        [["ab" * 32, -1]],
        [["ab" * 32, 0]],
        [["ab" * 32, BYTES + 1]],
        [["ab" * 32, BYTES], ["cd" * 32, 1]],
        field(*(ref_of(b"%d" % number) for number in range(18))),
    ],
)
def test_a_field_of_another_form_is_no_announcement_and_no_fault(
    repository: SimulatedRepository, tmp_path: Path, value: Any
) -> None:
    announce(repository, value)
    told: list[tuple[ObjectRef, ...]] = []
    assert repository.refresh(repository.client(tmp_path, on_announced=told.append)) == repository.revision
    assert told == []


@pytest.mark.root
def test_a_first_mount_asks_for_the_root_catalog_before_it_has_a_snapshot(tmp_path: Path) -> None:
    published = Published(tmp_path / "published")
    published.commit(live(published.objects, {"r.example": {"app:1": image(published.objects, {"f": b"1"})}}))
    root = read_revision(open_store(str(published.store))).root
    asked = threading.Event()
    files = of_directory(published.store)

    def content(path: str) -> bytes | None:
        if path.lstrip("/") == object_path(root.digest):
            asked.set()
        if path.endswith(".snapshot.json") and not asked.wait(20):
            return None  # the mount fails
        return files(path)

    trust = published.store / "metadata/1.root.json"
    with (
        FaultServer(content) as server,
        mounted(server.url, tmp_path / "mnt", "--cache", tmp_path / "cache", "--trust", trust) as mnt,
    ):
        assert (mnt / "r.example/app:1/f").read_bytes() == b"1"
        assert server.counts()[f"/{object_path(root.digest)}"] == 1


@pytest.mark.root
def test_an_announced_catalog_that_is_nowhere_is_no_fault_of_the_server(tmp_path: Path) -> None:
    published = Published(tmp_path / "published")
    published.commit(live(published.objects, {"r.example": {"app:1": image(published.objects, {"f": b"1"})}}))
    store, nowhere = open_store(str(published.store)), ref_of(b"nowhere")
    proven = read_committed(store).proven
    write_timestamp(
        store,
        keys.load(str(published.keys)).signers(proven.root, "timestamp"),
        proven.snapshot.version,
        proven.snapshot_bytes,
        msgspec.structs.replace(proven.revision, first_catalogs=(nowhere,)),
        proven,
        datetime.now(UTC),
        days=1,
    )
    trust = published.store / "metadata/1.root.json"
    with (
        FaultServer(of_directory(published.store)) as server,
        mounted(server.url, tmp_path / "mnt", "--cache", tmp_path / "cache", "--trust", trust) as mnt,
    ):
        assert (mnt / "r.example/app:1/f").read_bytes() == b"1"
        assert server.counts()[f"/{object_path(nowhere.digest)}"] == 1
        (origin,) = (
            member
            for member in status(mnt)["repositories"][published.name]["chain"]["members"]
            if member["kind"] == "origin"
        )
        assert (origin["state"], origin["faults"]) == ("up", {})
