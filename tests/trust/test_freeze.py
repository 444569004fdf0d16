"""The attack "indefinite freeze": an attacker withholds new revisions. The expiry dates bound the attack."""

from datetime import timedelta
from pathlib import Path

import pytest

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.trust.errors import Expired, Frozen
from tests.support.simulated_repository import SimulatedRepository


def test_an_expired_timestamp_that_never_changes_is_named_a_freeze(
    repository: SimulatedRepository, client: Revisions
) -> None:
    before = client.serving(repository.now)
    repository.now += timedelta(days=6, hours=23)
    assert repository.refresh(client) == before
    repository.now += timedelta(hours=2)
    with pytest.raises(Frozen, match=r"timestamp version 1, which expired on 2026-05-08.*lazyfs repo resign"):
        repository.refresh(client)
    assert client.serving(repository.now) == before
    report = client.report(repository.now)
    assert report.expired
    assert "expired" in report.error


def test_a_freeze_ends_with_a_renewed_timestamp(repository: SimulatedRepository, client: Revisions) -> None:
    repository.now += timedelta(days=8)
    with pytest.raises(Frozen):
        repository.refresh(client)
    repository.resign()
    assert repository.refresh(client) == repository.revision
    assert not client.report(repository.now).expired


def test_a_timestamp_that_expired_meanwhile_does_not_advance(
    repository: SimulatedRepository, client: Revisions
) -> None:
    before = client.serving(repository.now)
    repository.publish()
    repository.now += timedelta(days=8)
    with pytest.raises(Expired, match="timestamp version 2 expired"):
        repository.refresh(client)
    assert client.serving(repository.now) == before


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_nothing_expired_is_good_for_a_first_mount(
    repository: SimulatedRepository, tmp_path: Path, role: str
) -> None:
    for signed in (repository.root, repository.targets, repository.snapshot, repository.timestamp):
        early = signed.type == role
        signed.expires = repository.now + timedelta(days=1 if early else 100)
    repository.write_root()
    repository.write_targets()
    repository.now += timedelta(days=2)
    client = repository.client(tmp_path)
    with pytest.raises(Expired, match=f"{role} version 1 expired on 2026-05-02"):
        repository.refresh(client)
    assert client.serving(repository.now) is None
    assert client.offline(repository.now) is None


@pytest.mark.parametrize("role", ["snapshot", "targets", "root"])
def test_a_renewed_timestamp_does_not_hide_that_the_rest_has_expired(
    repository: SimulatedRepository, tmp_path: Path, role: str
) -> None:
    signed = {"snapshot": repository.snapshot, "targets": repository.targets, "root": repository.root}[role]
    signed.expires = repository.now + timedelta(days=30)
    repository.write_root()
    repository.write_targets()
    client = repository.client(tmp_path)
    repository.refresh(client)
    repository.now += timedelta(days=31)
    repository.resign()
    with pytest.raises(Expired, match=f"{role} version 1 expired"):
        repository.refresh(client)
    assert client.serving(repository.now) == repository.revision


def test_an_expired_root_is_good_for_finding_the_next(
    repository: SimulatedRepository, tmp_path: Path
) -> None:
    repository.now += timedelta(days=4000)
    repository.root.expires = repository.now + timedelta(days=1)
    repository.rotate("timestamp")
    assert repository.refresh(repository.client(tmp_path)) == repository.revision
