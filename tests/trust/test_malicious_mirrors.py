"""The attack "malicious mirrors": a client passes over a proxy that lies, lags or refuses, and never gets
stuck."""

from collections.abc import Callable

import pytest

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import LazyfsError, NotFound, TransportError
from tests.support.simulated_repository import SimulatedRepository


def html(repository: SimulatedRepository, name: str) -> bytes:
    return b"<html>welcome to the guest network</html>"


def foreign(repository: SimulatedRepository, name: str) -> bytes:
    return SimulatedRepository().files[name.replace("2.", "1.")]


def truncated(repository: SimulatedRepository, name: str) -> bytes:
    return repository.files.get(name, b"x")[:-1]


def rebound(repository: SimulatedRepository, name: str) -> bytes:
    return repository.files.get(name, b"{}").replace(b"2026", b"2027")


@pytest.mark.parametrize("lie", [html, foreign, truncated, rebound])
@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "2.snapshot.json", "2.targets.json"])
def test_a_lying_proxy_is_gone_past_in_the_same_refresh(
    repository: SimulatedRepository,
    client: Revisions,
    name: str,
    lie: Callable[[SimulatedRepository, str], bytes],
) -> None:
    published = repository.publish()
    repository.cached[name] = lie(repository, name)
    assert repository.refresh(client) == published
    assert client.report(repository.now).root_version == 1


@pytest.mark.parametrize("name", ["2.snapshot.json", "2.targets.json"])
def test_a_mirror_that_withholds_a_file_delays_and_no_more(
    repository: SimulatedRepository, client: Revisions, name: str
) -> None:
    before = client.serving(repository.now)
    published = repository.publish()
    repository.tamper = lambda request, body: None if request.path.endswith(name) else body
    with pytest.raises(NotFound):
        repository.refresh(client)
    assert client.serving(repository.now) == before
    repository.tamper = lambda _request, body: body
    assert repository.refresh(client) == published


def test_a_mirror_that_fails_the_root_probe_cannot_pass_for_there_being_none(
    repository: SimulatedRepository, client: Revisions
) -> None:
    """Only "not found" proves that there is no newer root. After any other failure, the client does not know
    the newest root and must not advance."""
    before = client.serving(repository.now)
    repository.publish()

    def tamper(request: object, body: bytes | None) -> bytes | None:
        if "root" in str(request):
            raise TransportError("503")
        return body

    repository.tamper = tamper
    with pytest.raises(TransportError, match="503"):
        repository.refresh(client)
    assert client.serving(repository.now) == before


def test_after_any_attack_the_true_repository_is_believed_again(
    repository: SimulatedRepository, client: Revisions
) -> None:
    for name in ("timestamp.json", "2.root.json", "N.snapshot.json", "N.targets.json"):
        for lie in (html, foreign, truncated, rebound):
            published = repository.publish()
            attacked = name.replace("N", str(published.number))
            body = lie(repository, attacked.replace(f"{published.number}.", "1."))
            repository.tamper = lambda request, true, attacked=attacked, body=body: (  # type: ignore[misc]
                body if request.path.endswith(attacked) else true
            )
            with pytest.raises(LazyfsError) as refused:
                repository.refresh(client)
            assert client.report(repository.now).error == str(refused.value)
            repository.tamper = lambda _request, true: true
            assert repository.refresh(client) == published
