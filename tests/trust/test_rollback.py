"""The attack "rollback": versions that were properly signed once, but are older than the trusted ones."""

from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import NotFound
from lazyfs.core.trust.errors import MixedUp, Rollback, WrongKey, WrongVersion
from tests.support.simulated_repository import SimulatedRepository


@pytest.fixture
def old(repository: SimulatedRepository, client: Revisions) -> SimulatedRepository:
    """Returns the repository as it was before a revision that the client has seen."""
    past = repository.clone()
    repository.publish()
    repository.refresh(client)
    return past


def test_an_old_timestamp_is_refused(
    repository: SimulatedRepository, client: Revisions, old: SimulatedRepository
) -> None:
    repository.files["timestamp.json"] = old.files["timestamp.json"]
    with pytest.raises(Rollback, match="timestamp version 1 came after version 2 was trusted"):
        repository.refresh(client)
    assert client.serving(repository.now) == repository.revision


def test_an_old_timestamp_is_refused_after_a_restart(
    repository: SimulatedRepository, client: Revisions, old: SimulatedRepository, tmp_path: Path
) -> None:
    repository.files["timestamp.json"] = old.files["timestamp.json"]
    restarted = repository.client(tmp_path)
    with pytest.raises(Rollback):
        repository.refresh(restarted)
    assert restarted.serving(repository.now) == repository.revision


def test_a_new_timestamp_that_names_an_old_snapshot_is_refused(
    repository: SimulatedRepository, client: Revisions, old: SimulatedRepository
) -> None:
    repository.timestamp.version += 1
    repository.timestamp.snapshot_meta = old.timestamp.snapshot_meta
    repository.write_timestamp()
    with pytest.raises(Rollback, match="timestamp version 3 names snapshot version 1 after version 2"):
        repository.refresh(client)
    assert client.serving(repository.now) == repository.revision


def test_a_new_snapshot_that_names_old_targets_is_refused(
    repository: SimulatedRepository, client: Revisions, old: SimulatedRepository
) -> None:
    repository.timestamp.version = repository.snapshot.version = 3
    repository.snapshot.meta = {
        "targets.json": MetaFile.from_data(1, old.files["1.targets.json"], ["sha256"])
    }
    repository.write_snapshot()
    with pytest.raises(Rollback, match=r"snapshot version 3 names targets\.json version 1 after version 2"):
        repository.refresh(client)
    assert client.serving(repository.now) == repository.revision


def test_new_targets_that_name_an_old_revision_are_refused(
    repository: SimulatedRepository, client: Revisions, old: SimulatedRepository
) -> None:
    repository.targets.targets = old.targets.targets
    before = repository.revision
    repository.bump()
    with pytest.raises(Rollback, match="revision 1 came after revision 2 was trusted"):
        repository.refresh(client)
    assert client.serving(repository.now) == before


def test_one_revision_with_two_catalogs_is_refused(
    repository: SimulatedRepository, client: Revisions
) -> None:
    repository.publish()
    repository.refresh(client)
    repository.targets.targets["catalog"].hashes = {"sha256": "0" * 64}
    repository.bump()
    with pytest.raises(MixedUp, match="revision 2 names two different root catalogs"):
        repository.refresh(client)


def test_an_old_root_is_not_the_next_one(repository: SimulatedRepository, client: Revisions) -> None:
    repository.rotate("timestamp")
    repository.refresh(client)
    repository.files["3.root.json"] = repository.files["1.root.json"]
    repository.publish()
    with pytest.raises(WrongVersion, match="root version 1 came where version 3 was asked for"):
        repository.refresh(client)
    assert client.report(repository.now).root_version == 2


def test_a_root_may_not_skip_a_version(repository: SimulatedRepository, client: Revisions) -> None:
    repository.root.version = 4
    repository.files["2.root.json"] = repository.sign(repository.root)
    repository.publish()
    with pytest.raises(WrongVersion, match="root version 4 came where version 2 was asked for"):
        repository.refresh(client)


def test_a_new_root_is_remembered_even_if_nothing_else_came(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    stolen = repository.clone()
    repository.rotate("timestamp")
    repository.files["timestamp.json"] = stolen.files["timestamp.json"]
    repository.publish()
    repository.files.pop("3.targets.json")
    repository.files.pop("3.snapshot.json")
    with pytest.raises(NotFound, match="404"):
        repository.refresh(client)
    assert client.report(repository.now).root_version == 2
    # The attacker hides the new root from now on, and signs with the old timestamp key.
    stolen.now += timedelta(days=1)
    stolen.publish()
    stolen.files.pop("2.root.json", None)
    restarted = stolen.client(tmp_path)
    with pytest.raises(WrongKey, match="timestamp version 2 is not signed by any key of its role"):
        stolen.refresh(restarted)
