"""The cost of verifying revisions, in requests and round trips."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.trust.errors import WrongKey
from lazyfs.transport.fetcher import Request
from tests.support.simulated_repository import SimulatedRepository


def test_a_refresh_that_finds_nothing_new_is_one_request(
    repository: SimulatedRepository, client: Revisions
) -> None:
    before = client.serving(repository.now)
    assert repository.refresh(client) == before
    assert repository.fetched() == {"timestamp.json": 1}


def test_a_renewed_timestamp_is_one_request(repository: SimulatedRepository, client: Revisions) -> None:
    repository.resign()
    repository.refresh(client)
    assert repository.fetched() == {"timestamp.json": 1}
    assert client.report(repository.now).timestamp_version == 2


def test_a_new_revision_is_four_requests_and_one_of_them_asks_for_a_newer_root(
    repository: SimulatedRepository, client: Revisions
) -> None:
    published = repository.publish()
    assert repository.refresh(client) == published
    assert repository.fetched() == {
        "timestamp.json": 1,
        "2.root.json": 1,
        "2.snapshot.json": 1,
        "2.targets.json": 1,
    }


@pytest.mark.parametrize("given", ["root", "fingerprint"])
def test_a_first_mount_takes_two_round_trips(
    repository: SimulatedRepository, tmp_path: Path, given: str
) -> None:
    first = {"timestamp.json", "2.root.json"} | ({"1.root.json"} if given == "fingerprint" else set())
    second = {"1.snapshot.json", "1.targets.json"}
    barriers = {
        name: barrier
        for names in (first, second)
        for barrier in [threading.Barrier(len(names))]
        for name in names
    }

    def together(request: Request, body: bytes | None) -> bytes | None:
        # Each request waits for all others of its round trip: BrokenBarrierError if one never comes.
        barriers[request.path.removeprefix("metadata/")].wait(10)
        return body

    repository.tamper = together
    client = repository.client(
        tmp_path, anchor=repository.fingerprint() if given == "fingerprint" else "root"
    )
    assert repository.refresh(client) == repository.revision
    assert repository.fetched() == dict.fromkeys(first | second, 1)


def test_targets_of_another_number_than_the_snapshot_cost_one_more_request(
    repository: SimulatedRepository, client: Revisions
) -> None:
    repository.snapshot.version = 7
    published = repository.publish()
    repository.snapshot.version = 8
    repository.write_snapshot()
    assert repository.refresh(client) == published
    assert repository.fetched() == {
        "timestamp.json": 1,
        "2.root.json": 1,
        "8.snapshot.json": 1,
        "8.targets.json": 1,
        "2.targets.json": 1,
    }


def test_what_is_not_believed_is_asked_for_once_more_past_the_caches(
    repository: SimulatedRepository, client: Revisions
) -> None:
    old = repository.files["timestamp.json"]
    repository.publish()
    repository.refresh(client)
    repository.fetched()
    repository.cached["timestamp.json"] = old  # a proxy lags behind
    assert repository.refresh(client) == repository.revision
    assert [request.no_cache for request in repository.requests if "timestamp" in request.path] == [
        False,
        True,
    ]


def test_the_root_is_asked_for_once_a_day_even_when_nothing_is_new(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    for hours, names in [
        (23, {"timestamp.json"}),
        (2, {"timestamp.json", "2.root.json"}),
        (23, {"timestamp.json"}),
    ]:
        repository.now += timedelta(hours=hours)
        repository.refresh(client)
        assert repository.fetched() == dict.fromkeys(names, 1)
    restarted = repository.client(tmp_path)
    for names in ({"timestamp.json", "2.root.json"}, {"timestamp.json"}):
        repository.refresh(restarted)
        assert repository.fetched() == dict.fromkeys(names, 1)


def test_a_thief_of_a_replaced_timestamp_key_keeps_nobody_quiet_for_longer(
    repository: SimulatedRepository, client: Revisions
) -> None:
    thief = repository.clone()
    repository.rotate("timestamp")
    thief.files["2.root.json"] = repository.files["2.root.json"]
    repository.files = thief.files
    thief.now += timedelta(days=2)
    thief.resign()
    repository.now = thief.now
    with pytest.raises(WrongKey, match="timestamp version 2"):
        repository.refresh(client)
