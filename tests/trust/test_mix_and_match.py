"""The attack "mix-and-match": files that are each properly signed, but were never in the repository
together."""

import pytest
from tuf.api.metadata import MetaFile

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import TrustError
from lazyfs.core.trust.errors import MixedUp, WrongVersion
from tests.support.simulated_repository import SimulatedRepository


@pytest.mark.parametrize("role", ["snapshot", "targets"])
@pytest.mark.parametrize("other", [1, 2, 4])
def test_a_file_of_another_revision_is_refused(
    repository: SimulatedRepository, client: Revisions, role: str, other: int
) -> None:
    before = client.serving(repository.now)
    for _ in range(3):
        repository.publish()
    third = repository.clone()
    third.files["timestamp.json"] = _timestamp_of(third, 3)
    third.files[f"3.{role}.json"] = third.files[f"{other}.{role}.json"].ljust(
        len(third.files[f"3.{role}.json"])
    )
    repository.files = third.files
    with pytest.raises(
        MixedUp, match=f"{role} version {other} is not the file that the signed metadata names"
    ):
        repository.refresh(client)
    assert client.serving(repository.now) == before


def _timestamp_of(repository: SimulatedRepository, revision: int) -> bytes:
    data = repository.files[f"{revision}.snapshot.json"]
    repository.timestamp.snapshot_meta = MetaFile.from_data(revision, data, ["sha256"])
    return repository.sign(repository.timestamp)


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_without_hashes_the_version_decides(
    repository: SimulatedRepository, client: Revisions, role: str
) -> None:
    for _ in range(2):
        repository.publish()
    for meta in (repository.timestamp.snapshot_meta, *repository.snapshot.meta.values()):
        meta.hashes = meta.length = None
    repository.files["3.snapshot.json"] = repository.sign(repository.snapshot)
    repository.write_timestamp()
    repository.files[f"3.{role}.json"] = repository.files[f"2.{role}.json"]
    with pytest.raises(WrongVersion, match=f"names {role} version 3, version 2 came"):
        repository.refresh(client)


def test_one_timestamp_version_with_two_contents_is_refused(
    repository: SimulatedRepository, client: Revisions
) -> None:
    thief = repository.clone()
    repository.resign()
    repository.refresh(client)
    thief.publish()
    thief.timestamp.version = 2
    thief.write_timestamp()
    repository.files = thief.files
    with pytest.raises(MixedUp, match="timestamp version 2 has two contents"):
        repository.refresh(client)


def test_one_snapshot_version_with_two_contents_is_refused(
    repository: SimulatedRepository, client: Revisions
) -> None:
    thief = repository.clone()
    repository.publish()
    repository.refresh(client)
    thief.targets.targets["catalog"].hashes = {"sha256": "0" * 64}
    thief.bump()
    thief.timestamp.version = 3
    thief.write_timestamp()
    repository.files = thief.files
    with pytest.raises(TrustError, match="snapshot version 2 is not the file that the signed metadata names"):
        repository.refresh(client)
