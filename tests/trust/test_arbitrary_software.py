"""The attack "arbitrary software installation": content that no holder of the keys has signed."""

import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.digest import sha256
from lazyfs.core.errors import TrustError
from lazyfs.core.trust.errors import Malformed, MixedUp, WrongKey, WrongRoot
from tests.support.simulated_repository import SimulatedRepository

ROLES = ["timestamp", "snapshot", "targets"]


@pytest.mark.parametrize("role", ROLES)
def test_metadata_signed_by_a_foreign_key_is_refused(
    repository: SimulatedRepository, client: Revisions, role: str
) -> None:
    before = client.serving(repository.now)
    repository.signers[role] = [CryptoSigner.generate_ed25519()]
    repository.publish()
    with pytest.raises(WrongKey, match=f"{role} version 2 is not signed by any key of its role"):
        repository.refresh(client)
    assert client.serving(repository.now) == before


def test_a_root_signed_by_a_foreign_key_is_refused(
    repository: SimulatedRepository, client: Revisions
) -> None:
    before = client.serving(repository.now)
    repository.signers["root"] = [CryptoSigner.generate_ed25519()]
    repository.rotate("root")
    with pytest.raises(WrongKey, match=r"root version 2 \(by version 1\)"):
        repository.refresh(client)
    assert client.serving(repository.now) == before
    assert client.report(repository.now).root_version == 1


def test_a_root_that_does_not_sign_itself_is_refused(
    repository: SimulatedRepository, client: Revisions
) -> None:
    old = repository.signers["root"]
    repository.rotate("root")
    repository.write_root(old)
    with pytest.raises(WrongKey, match=r"root version 2 \(by itself\)"):
        repository.refresh(client)


@pytest.mark.parametrize("role", ROLES)
def test_content_changed_under_its_signature_is_refused(
    repository: SimulatedRepository, client: Revisions, role: str
) -> None:
    repository.publish()
    name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
    body = json.loads(repository.files[name])
    body["signed"]["expires"] = "2099-01-01T00:00:00Z"
    repository.files[name] = json.dumps(body, separators=(",", ":")).encode()
    with pytest.raises((WrongKey, MixedUp)):
        repository.refresh(client)
    served = client.serving(repository.now)
    assert served is not None
    assert served.number == 1


@pytest.mark.parametrize("role", ROLES)
def test_unsigned_metadata_is_refused(repository: SimulatedRepository, client: Revisions, role: str) -> None:
    repository.signers[role] = []
    repository.publish()
    with pytest.raises(WrongKey):
        repository.refresh(client)


@pytest.mark.parametrize("key", ["root", "targets"])
def test_the_timestamp_cannot_be_signed_by_another_roles_key(
    repository: SimulatedRepository, client: Revisions, key: str
) -> None:
    repository.signers["timestamp"] = repository.signers[key]
    repository.publish()
    with pytest.raises(WrongKey):
        repository.refresh(client)


def test_a_first_root_with_another_fingerprint_is_refused(
    repository: SimulatedRepository, tmp_path: Path
) -> None:
    client = repository.client(tmp_path, anchor=sha256(b"another"))
    with pytest.raises(WrongRoot, match=repository.fingerprint().hex()):
        repository.refresh(client)
    assert client.serving(repository.now) is None
    assert not (tmp_path / "trust").exists()


@pytest.mark.parametrize("body", [b"", b"<html>log in here</html>", b"{}", b"[]", b"null", b"\xff\x00"])
@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "2.snapshot.json", "2.targets.json"])
def test_what_is_no_metadata_is_refused(
    repository: SimulatedRepository, client: Revisions, name: str, body: bytes
) -> None:
    repository.publish()
    repository.files[name] = body
    with pytest.raises(Malformed, match="cannot be read"):
        repository.refresh(client)
    with pytest.raises(TrustError):
        repository.refresh(client)
