"""Key rotation through the root, as a mounted client sees it."""

from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.trust.errors import WrongKey
from lazyfs.core.trust.state import bootstrap
from tests.support.simulated_repository import SimulatedRepository

ROLES = ["root", "targets", "timestamp"]


@pytest.mark.parametrize("role", ROLES)
def test_a_live_client_follows_a_rotation(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path, role: str
) -> None:
    repository.rotate(role, count=2, threshold=2)
    assert repository.refresh(client) == repository.revision
    published = repository.publish()
    assert repository.refresh(client) == published
    assert client.report(repository.now).root_version == 2
    assert repository.client(tmp_path).offline(repository.now) == published


def test_a_client_that_slept_through_many_rotations_catches_up(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    for role in ROLES * 4:
        repository.rotate(role)
    published = repository.publish()
    assert repository.refresh(client) == published
    assert client.report(repository.now).root_version == 13
    assert repository.client(tmp_path, anchor=repository.fingerprint()).offline(repository.now) == published


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_root_file_of_any_version_is_a_good_anchor(
    repository: SimulatedRepository, tmp_path: Path, version: int
) -> None:
    for role in ROLES:
        repository.rotate(role)
    anchor = bootstrap(repository.files[f"{version}.root.json"])
    client = repository.client(tmp_path, anchor=anchor)
    assert repository.refresh(client) == repository.revision
    assert client.report(repository.now).root_version == 4


def test_a_rotation_under_way_stops_advancing_and_not_serving(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    """The publisher was killed after it had written the new root, and before the revision that is signed
    under this root."""
    old = repository.clone()
    repository.rotate("timestamp")
    finished = repository.files
    old.publish()  # by a publisher that does not know the new root yet
    repository.files = {**old.files, "2.root.json": finished["2.root.json"]}
    with pytest.raises(WrongKey, match="timestamp version 2"):
        repository.refresh(client)
    assert client.report(repository.now).root_version == 2
    assert client.serving(repository.now) == repository.revision
    assert repository.client(tmp_path).offline(repository.now) == repository.revision
    repository.files = finished
    assert repository.refresh(client) == repository.revision


def test_a_rotation_seen_with_the_same_snapshot_is_judged_by_the_new_keys(
    repository: SimulatedRepository, client: Revisions
) -> None:
    """The new root changes only its own version, so the snapshot that the client already has is valid under
    it too."""
    repository.root.version += 1
    repository.write_root()
    repository.publish()
    repository.refresh(client)
    assert client.report(repository.now).root_version == 2
    repository.fetched()
    repository.resign()
    repository.refresh(client)
    assert repository.fetched() == {"timestamp.json": 1}


def test_a_revision_signed_by_replaced_keys_does_not_count_under_the_new_root(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    """The timestamp is signed with the new key, but still names the snapshot that is signed with the old
    targets key."""
    before = client.serving(repository.now)
    repository.rotate("targets")
    repository.rotate("timestamp")
    snapshot = repository.files["1.snapshot.json"]
    repository.timestamp.snapshot_meta = MetaFile.from_data(1, snapshot, ["sha256"])
    repository.resign()
    for _ in range(2):  # the first refresh finds the new roots, the second starts from them
        with pytest.raises(WrongKey, match="snapshot version 1"):
            repository.refresh(client)
    assert client.report(repository.now).root_version == 3
    assert client.serving(repository.now) == before
    assert repository.client(tmp_path).offline(repository.now) == before
