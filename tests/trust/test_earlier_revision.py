"""The revision that mounts showed last is kept until a mount shows a newer one: a worker that starts anew
begins with it. It lets no older metadata in."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from lazyfs.client.trust import persisted_revisions
from lazyfs.client.trust.revisions import Revisions
from lazyfs.client.trust.saved_trust import trusted_revision
from lazyfs.core.trust.errors import Expired, Rollback
from lazyfs.core.trust.state import bootstrap
from tests.support.simulated_repository import SimulatedRepository


def begins_with(repository: SimulatedRepository, directory: Path) -> int | None:
    """Returns the number of the revision with which a mount begins, by both checks of the saved state."""
    restarted = repository.client(directory)
    newest = restarted.offline(repository.now)
    first = restarted.earlier() or newest
    assert first == trusted_revision(str(directory / "trust"), "http://server", None, None)
    return None if first is None else first.number


def test_a_mount_begins_with_the_revision_that_was_shown_last(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    assert begins_with(repository, tmp_path) == 1
    second = repository.publish()
    repository.refresh(client)
    assert begins_with(repository, tmp_path) == 1
    for change in (repository.publish, repository.resign, lambda: repository.rotate("targets")):
        change()
        repository.refresh(client)
        client.note_shown(second)  # a mount that lags
        assert begins_with(repository, tmp_path) == 1
    client.note_shown(repository.revision)
    assert begins_with(repository, tmp_path) == 3
    assert "earlier" not in json.loads((tmp_path / "trust/trust.json").read_bytes())


def test_a_revision_that_was_not_shown_is_the_floor_all_the_same(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    """A server that keeps back the objects of a new revision cannot lead a worker back to the revision
    before."""
    old = repository.clone()
    repository.publish()
    repository.refresh(client)
    restarted = old.client(tmp_path)
    assert restarted.offline(old.now) == repository.revision
    with pytest.raises(Rollback):
        old.refresh(restarted)
    assert begins_with(old, tmp_path) == 1


def test_the_newest_revision_decides_what_is_stale(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    """As in a daemon that goes on showing the revision before."""
    repository.now += timedelta(days=30)
    repository.publish()
    repository.refresh(client)
    strict = repository.client(tmp_path, max_stale=3600)
    assert strict.offline(repository.now) == repository.revision
    repository.now += timedelta(days=30)
    with pytest.raises(Expired):
        strict.offline(repository.now)


def test_one_mount_that_shows_the_newest_revision_is_enough(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    """Both mounts have one cache, so the other one has the objects too."""
    other = repository.client(tmp_path)
    published = repository.publish()
    repository.refresh(client)
    repository.refresh(other)
    assert other.earlier() is not None
    other.note_shown(published)
    assert begins_with(repository, tmp_path) == 2
    client.note_shown(published)
    assert client.earlier() is None


def test_an_anchor_that_is_newer_than_the_root_of_the_revision_before(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    repository.rotate("root")
    repository.publish()
    repository.refresh(client)
    assert client.earlier() is not None
    restarted = repository.client(tmp_path, anchor=bootstrap(repository.files["2.root.json"]))
    assert (restarted.offline(repository.now), restarted.earlier()) == (client.serving(repository.now), None)
    assert restarted.report(repository.now).problem == ""


def test_the_contents_of_the_cache_are_those_of_the_revision_that_was_shown(
    repository: SimulatedRepository, client: Revisions, tmp_path: Path
) -> None:
    shown = repository.revision
    repository.publish()
    repository.refresh(client)
    (found,) = persisted_revisions.revisions(str(tmp_path))
    assert found.root == shown.root
