"""Endless data: answers that would fill memory or never end."""

from pathlib import Path

import pytest

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import TransportError, TrustError
from lazyfs.core.trust import roles
from lazyfs.core.trust.errors import TooLarge, WrongRoot
from lazyfs.core.trust.state import bootstrap, restore
from lazyfs.core.trust.update import Update
from lazyfs.transport.fetcher import Request
from tests.support.simulated_repository import SimulatedRepository


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "2.snapshot.json", "2.targets.json"])
def test_no_file_is_read_beyond_its_limit(
    repository: SimulatedRepository, client: Revisions, name: str
) -> None:
    repository.publish()
    true = repository.files.get(name, b"")

    def endless(request: Request, body: bytes | None) -> bytes | None:
        assert request.max_bytes <= roles.MAX_ROOT
        return true + b" " * (request.max_bytes + 1) if request.path.endswith(name) else body

    repository.tamper = endless
    with pytest.raises(TransportError, match="bytes expected"):
        repository.refresh(client)


def test_the_snapshot_is_not_read_beyond_its_signed_length(
    repository: SimulatedRepository, client: Revisions
) -> None:
    repository.publish()
    repository.refresh(client)
    limits = {request.path: request.max_bytes for request in repository.requests}
    assert limits["metadata/2.snapshot.json"] == len(repository.files["2.snapshot.json"])


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_the_rules_refuse_what_a_fetcher_lets_through(repository: SimulatedRepository, role: str) -> None:
    update = Update(bootstrap(repository.files["1.root.json"]), repository.now)
    files = [] if role == "root" else ["timestamp", "snapshot", "targets"]
    for before in files[: files.index(role)] if files else []:
        getattr(update, before)(repository.files[roles.file_name(before, 1)])
    padded = repository.files[roles.file_name(role, 1)] + b" " * roles.MAX_ROOT
    with pytest.raises(TooLarge, match=f"{role} metadata of .* bytes is over the limit"):
        getattr(update, role)(padded)


def test_an_endless_chain_of_roots_ends(
    repository: SimulatedRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.client.trust.revisions.MAX_ROOTS", 5)
    for _ in range(20):
        repository.root.version += 1
        repository.write_root()
    client = repository.client(tmp_path)
    with pytest.raises(WrongRoot, match="more than 5 new roots"):
        repository.refresh(client)
    assert sum(repository.fetched().values()) < 20


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"signed":' * 50_000, b'{"roots":["' + b"[" * 9999 + b'"]}']
)
def test_bottomless_nesting_is_an_error_like_any_other(text: bytes) -> None:
    with pytest.raises(TrustError):
        bootstrap(text[: roles.MAX_ROOT])
    with pytest.raises(TrustError):
        restore(text, None)
