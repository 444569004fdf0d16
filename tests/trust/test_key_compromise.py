"""The attack "key compromise": what a thief with some of the keys, or with old ones, can and cannot do."""

from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import TrustError
from lazyfs.core.trust.errors import ThresholdNotMet, WrongKey
from tests.support.simulated_repository import SimulatedRepository


@pytest.mark.parametrize("role", ["root", "targets", "timestamp"])
def test_fewer_keys_than_the_threshold_are_refused(
    repository: SimulatedRepository, client: Revisions, role: str
) -> None:
    repository.rotate(role, count=3, threshold=2)
    before = repository.refresh(client)
    stolen = repository.signers[role][:1]
    for signed in ("targets", "snapshot") if role == "targets" else (role,):
        repository.signers[signed] = stolen
    if role == "root":
        repository.root.version += 1
        repository.write_root()
    repository.publish()
    with pytest.raises(ThresholdNotMet, match=r"signed by 1 of the 2 keys its role demands"):
        repository.refresh(client)
    assert client.serving(repository.now) == before


def test_one_key_that_signs_twice_counts_once(repository: SimulatedRepository, client: Revisions) -> None:
    repository.rotate("timestamp", count=2, threshold=2)
    repository.refresh(client)
    signer = repository.signers["timestamp"][0]
    repository.publish()
    repository.files["timestamp.json"] = repository.sign(repository.timestamp, [signer, signer])
    with pytest.raises(TrustError):
        repository.refresh(client)


def test_the_threshold_with_one_key_lost_is_enough(
    repository: SimulatedRepository, client: Revisions
) -> None:
    repository.rotate("targets", count=3, threshold=2)
    repository.refresh(client)
    repository.signers["targets"] = repository.signers["snapshot"] = repository.signers["targets"][1:]
    published = repository.publish()
    assert repository.refresh(client) == published


@pytest.mark.parametrize("role", ["targets", "timestamp"])
def test_a_revoked_key_cannot_make_a_new_revision(
    repository: SimulatedRepository, client: Revisions, role: str
) -> None:
    """The client has not yet seen the key rotation, but it looks for a newer root before it accepts a
    revision."""
    thief = repository.clone()
    repository.rotate(role)
    before = client.serving(repository.now)
    thief.publish()
    repository.files = {**thief.files, "2.root.json": repository.files["2.root.json"]}
    with pytest.raises(WrongKey):
        repository.refresh(client)
    assert client.serving(repository.now) == before
    assert client.report(repository.now).root_version == 2


def test_a_stolen_timestamp_key_cannot_publish(repository: SimulatedRepository, client: Revisions) -> None:
    repository.signers["targets"] = repository.signers["snapshot"] = repository.signers["timestamp"]
    repository.publish()
    with pytest.raises(WrongKey, match="snapshot version 2 is not signed"):
        repository.refresh(client)


def test_versions_that_a_thief_ran_up_are_forgotten_once_the_keys_are_replaced(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    """Fast-forward attack: without this recovery, version 2**60 would lock out every honest version for
    ever."""
    thief = repository.clone()
    thief.timestamp.version = thief.targets.version = 2**60
    thief.publish()
    true, repository.files = repository.files, thief.files
    assert repository.refresh(client) == thief.revision
    repository.files = true
    published = repository.publish()
    with pytest.raises(TrustError):
        repository.refresh(client)
    repository.rotate("timestamp")
    repository.rotate("targets")
    assert repository.refresh(client) == published
    assert repository.client(tmp_path).offline(repository.now) == published


def test_a_thief_of_the_root_key_is_shut_out_by_the_next_root(
    repository: SimulatedRepository, client: Revisions
) -> None:
    old = repository.rotate("root")
    repository.refresh(client)
    repository.root.version += 1
    repository.root.expires += timedelta(days=1)
    repository.write_root([*old, CryptoSigner.generate_ed25519()])
    repository.publish()
    with pytest.raises(WrongKey, match=r"root version 3 \(by version 2\)"):
        repository.refresh(client)
