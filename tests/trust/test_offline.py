"""A worker that starts while every server is down, with only the saved state on its disk."""

import fcntl
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lazyfs.client.trust.revisions import Revisions
from lazyfs.client.trust.trust_file import TrustFile
from lazyfs.core.errors import TransportError, UsageError
from lazyfs.core.trust.errors import Expired
from lazyfs.transport.fetcher import Request
from tests.support.simulated_repository import START, SimulatedRepository


def dead(request: Request, body: bytes | None) -> bytes | None:
    raise TransportError("no server")


@pytest.mark.parametrize("anchor", ["root", "fingerprint", None])
def test_the_last_trusted_revision_is_served_with_every_server_dead(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path, anchor: str | None
) -> None:
    given = repository.fingerprint() if anchor == "fingerprint" else anchor
    published = repository.publish()
    repository.refresh(client)
    repository.tamper = dead
    repository.fetched()
    restarted = repository.client(tmp_path, anchor=given)
    assert restarted.offline(repository.now) == published
    assert not repository.fetched()
    with pytest.raises(TransportError, match="no server"):
        repository.refresh(restarted)
    assert restarted.serving(repository.now) == published
    report = restarted.report(repository.now)
    assert (report.revision, report.error, report.problem) == (2, "no server", "")


def test_it_recovers_by_itself_when_a_server_is_back(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    restarted = repository.client(tmp_path)
    restarted.offline(repository.now)
    repository.tamper = dead
    with pytest.raises(TransportError):
        repository.refresh(restarted)
    repository.tamper = lambda _request, body: body
    published = repository.publish()
    assert repository.refresh(restarted) == published
    assert restarted.serving(repository.now) == published
    assert restarted.report(repository.now).error == ""


def test_expiry_does_not_stop_serving(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    repository.now += timedelta(days=4000)
    restarted = repository.client(tmp_path)
    assert restarted.offline(repository.now) == repository.revision
    assert restarted.report(repository.now).expired


def test_max_stale_stops_serving_for_those_who_want_it_to(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    strict = repository.client(tmp_path, max_stale=3600)
    repository.now += timedelta(days=7, minutes=59)
    assert strict.offline(repository.now) == repository.revision
    repository.now += timedelta(minutes=2)
    with pytest.raises(Expired, match="--max-stale 3600 s"):
        strict.offline(repository.now)
    repository.resign()
    repository.refresh(strict)
    assert strict.serving(repository.now) == repository.revision


FIRST, LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime.max.replace(microsecond=0, tzinfo=UTC)


@pytest.mark.parametrize("max_stale", [0.0, 3600.0, 1e300])
@pytest.mark.parametrize(("expires", "over"), [(LAST, False), (FIRST, True)])
def test_no_date_is_too_far_away_for_max_stale(
    repository: SimulatedRepository, tmp_path: Path, max_stale: float, expires: datetime, over: bool
) -> None:
    """The last date that Python can represent, plus an hour, is not a valid date."""
    client = repository.client(tmp_path, max_stale=max_stale)
    repository.timestamp.expires = expires
    repository.write_timestamp()
    if over:  # an expired timestamp is refused now, but may have been accepted while the clock was wrong
        repository.now = expires - timedelta(seconds=1)
        repository.refresh(client)
        repository.now = START
    else:
        repository.refresh(client)
    if over and max_stale < 1e300:
        with pytest.raises(Expired, match="--max-stale"):
            client.serving(repository.now)
    else:
        assert client.serving(repository.now) == repository.revision


def test_nothing_is_trusted_on_first_use_without_an_anchor(
    repository: SimulatedRepository, tmp_path: Path
) -> None:
    client = repository.client(tmp_path, anchor=None)
    assert client.offline(repository.now) is None
    with pytest.raises(UsageError, match="--trust FINGERPRINT"):
        repository.refresh(client)
    assert not repository.fetched()


def test_every_byte_of_the_persisted_state_is_checked(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    file = tmp_path / "trust" / "trust.json"
    good = file.read_bytes()
    for place in range(0, len(good), 37):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        restarted = repository.client(tmp_path)
        served = restarted.offline(repository.now)
        assert served in (None, repository.revision)
        assert served or "was not used" in restarted.report(repository.now).problem, place
    file.write_bytes(good[: len(good) // 2])
    restarted = repository.client(tmp_path)
    assert restarted.offline(repository.now) is None
    assert (tmp_path / "trust" / "trust.json.bad").exists()
    assert repository.refresh(restarted) == repository.revision


def test_another_root_given_by_the_operator_overrides_what_was_persisted(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    rebuilt = SimulatedRepository()
    restarted = rebuilt.client(tmp_path)
    assert restarted.offline(rebuilt.now) is None
    assert "does not start from the root that was given" in restarted.report(rebuilt.now).problem
    assert rebuilt.refresh(restarted) == rebuilt.revision
    assert rebuilt.client(tmp_path).offline(rebuilt.now) == rebuilt.revision


def test_two_mounts_share_what_they_learn(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    other = repository.client(tmp_path)
    published = repository.publish()
    repository.refresh(other)
    repository.fetched()
    assert repository.refresh(client) == published
    assert repository.fetched() == {"timestamp.json": 1}


def test_a_mount_that_lags_does_not_overwrite_what_a_newer_one_persisted(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    published = repository.publish()
    lagging = repository.client(tmp_path)
    lagging.offline(repository.now)

    def overtaken(request: Request, body: bytes | None) -> bytes | None:
        if "targets" in request.path:  # the other mount is ahead by two revisions
            repository.tamper = lambda _request, body: body
            repository.publish()
            repository.refresh(client)
        return body

    repository.tamper = overtaken
    assert repository.refresh(lagging) == published
    assert repository.client(tmp_path).offline(repository.now) == repository.revision
    assert repository.revision.number == 3


@pytest.mark.parametrize("obstacle", ["file in the way", "full disk"])
def test_a_state_directory_that_fails_stops_nothing(
    repository: SimulatedRepository, tmp_path: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if obstacle == "file in the way":
        (tmp_path / "trust").write_bytes(b"")
    else:

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
    client = repository.client(tmp_path)
    assert client.offline(repository.now) is None
    assert repository.refresh(client) == repository.revision
    assert "could not be saved" in client.report(repository.now).problem


def test_a_process_that_was_stopped_while_it_saved_holds_nobody_up(
    repository: SimulatedRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: flock(2) had no timeout, so mounts, and searches for new revisions, never ended."""
    monkeypatch.setattr(TrustFile.__init__, "__kwdefaults__", {"lock_wait": 0.0})
    client = repository.client(tmp_path)
    repository.refresh(client)
    with (tmp_path / "trust/trust.json.lock").open() as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        published = repository.publish()
        assert repository.refresh(client) == published
        assert "another process holds its lock" in client.report(repository.now).problem
        assert repository.client(tmp_path).offline(repository.now) != published
    assert repository.refresh(client) == published
    assert client.report(repository.now).problem == ""
    assert repository.client(tmp_path).offline(repository.now) == published
