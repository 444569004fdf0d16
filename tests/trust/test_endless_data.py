"""The attack "endless data": answers that would fill the memory or never end."""

from copy import deepcopy
from pathlib import Path

import pytest

from lazyfs.client.trust.revisions import Revisions
from lazyfs.client.trust.trust_file import TrustFile
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


class Endless:
    """Signs the next root at each request, as a thief of the root keys could. Each root has an unused field
    of `padding` bytes."""

    def __init__(self, repository: SimulatedRepository, padding: int) -> None:
        self.repository = repository
        self.padding = padding
        self.asked = 0
        repository.tamper = self._answer

    def _answer(self, request: Request, body: bytes | None) -> bytes | None:
        number, _, role = request.path.removeprefix("metadata/").partition(".")
        if role != "root.json" or number == "1":
            return body
        self.asked += 1
        root = deepcopy(self.repository.root)
        root.version = int(number)
        root.unrecognized_fields["padding"] = "x" * self.padding
        return self.repository.sign(root)


class Written:
    """Records the sizes of the writes to disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        real = TrustFile._write

        def counted(file: TrustFile, data: bytes) -> None:
            self.sizes.append(len(data))
            real(file, data)

        monkeypatch.setattr(TrustFile, "_write", counted)


def test_an_endless_chain_of_roots_ends_each_look_and_is_written_once(
    repository: SimulatedRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.client.trust.refresh_attempt.MAX_ROOTS", 5)
    endless, written = Endless(repository, 10), Written(monkeypatch)
    client = repository.client(tmp_path)
    for look in range(1, 4):
        with pytest.raises(WrongRoot, match="more than 5 new roots"):
            repository.refresh(client)
        assert client.report(repository.now).root_version == 1 + 5 * look
        assert len(written.sizes) == look
        assert endless.asked <= 10 * look


def test_an_endless_chain_of_large_roots_stops_growing(
    repository: SimulatedRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each root has half a megabyte. Regression: a single search for new roots wrote the whole chain again
    after each of 256 roots, 16 GB in all."""
    endless, written = Endless(repository, 500_000), Written(monkeypatch)
    client = repository.client(tmp_path)
    problems = []
    for _ in range(6):
        with pytest.raises(WrongRoot) as failure:
            repository.refresh(client)
        problems.append(str(failure.value))
    assert "1048576 bytes of them" in problems[0]
    assert "take more than 4194304 bytes: give a newer root with --trust" in problems[-1]
    assert max(written.sizes) < roles.MAX_CHAIN + 100_000
    assert sum(written.sizes) < 4 * roles.MAX_CHAIN
    assert endless.asked < 40
    # The trusted root is kept over a restart, and an operator can begin anew from a newer root.
    assert repository.client(tmp_path).report(repository.now).root_version == 0
    restarted = repository.client(tmp_path)
    restarted.offline(repository.now)
    newest = restarted.report(repository.now).root_version
    assert newest == client.report(repository.now).root_version > 5


def test_a_saved_state_that_somebody_has_blown_up_is_set_aside(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    saved = tmp_path / "trust" / "trust.json"
    with saved.open("ab") as file:
        file.truncate(1 << 40)  # sparse: too large to be read as a whole
    restarted = repository.client(tmp_path)
    assert restarted.offline(repository.now) is None
    assert "saved trust of more than" in restarted.report(repository.now).problem
    assert (tmp_path / "trust" / "trust.json.bad").exists()
    assert repository.refresh(restarted) == repository.revision


@pytest.mark.parametrize("version", [0, 2**63, 10**4299])
@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_versions_that_are_no_numbers_to_others_are_refused(
    repository: SimulatedRepository, client: Revisions, role: str, version: int
) -> None:
    """A state with a version of 4,300 digits could be saved, but never be read again."""
    signed = getattr(repository, role)
    named = signed.snapshot_meta if role == "timestamp" else signed.meta["targets.json"]
    repository.publish()
    named = signed.snapshot_meta if role == "timestamp" else signed.meta["targets.json"]
    named.version = version
    if role == "timestamp":
        repository.timestamp.version += 1
        repository.write_timestamp()
    else:
        repository.write_snapshot()
    with pytest.raises(TrustError):
        repository.refresh(client)
    assert client.serving(repository.now) is not None


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"signed":' * 50_000, b'{"roots":["' + b"[" * 9999 + b'"]}']
)
def test_bottomless_nesting_is_an_error_like_any_other(text: bytes) -> None:
    with pytest.raises(TrustError):
        bootstrap(text[: roles.MAX_ROOT])
    with pytest.raises(TrustError):
        restore(text, None)
