"""The attack "wrong software": a properly signed file, offered in place of another."""

import pytest

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core import bounds
from lazyfs.core.errors import UnsupportedFormat
from lazyfs.core.params import Params
from lazyfs.core.trust.errors import Malformed, MixedUp
from tests.support.simulated_repository import SimulatedRepository


def test_another_repository_under_the_same_keys_is_refused(
    repository: SimulatedRepository, client: Revisions
) -> None:
    before = client.serving(repository.now)
    repository.name = "other.example.org"
    repository.publish()
    with pytest.raises(MixedUp, match=r"'other\.example\.org' came where 'test\.example\.org' is trusted"):
        repository.refresh(client)
    assert client.serving(repository.now) == before


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (given, asked)
        for given in ("root", "timestamp", "snapshot", "targets")
        for asked in ("2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json")
        if given not in asked
    ],
)
def test_the_file_of_another_role_is_refused(
    repository: SimulatedRepository, client: Revisions, given: str, asked: str
) -> None:
    repository.publish()
    name = {"root": "1.root.json", "timestamp": "timestamp.json"}.get(given, f"2.{given}.json")
    repository.tamper = lambda request, body: (
        repository.files[name][: request.max_bytes] if request.path.endswith(asked) else body
    )
    with pytest.raises(Malformed):
        repository.refresh(client)


@pytest.mark.parametrize(
    "custom",
    [
        None,
        {},
        {"name": "x", "revision": "2", "time": 1, "params": {}},
        {"name": "x", "revision": 0, "time": 1, "params": {"version": 1}},
        {"name": "x", "revision": 2, "time": 1, "params": {"version": 1, "surprise": 1}},
        {"name": "x", "revision": 2, "time": 1, "params": {"version": 1, "chunk_shift": 99}},
    ],
)
def test_a_target_that_is_no_revision_is_refused(
    repository: SimulatedRepository, client: Revisions, custom: object
) -> None:
    repository.publish()
    repository.targets.targets["catalog"].unrecognized_fields = {} if custom is None else {"custom": custom}
    repository.bump()
    with pytest.raises(Malformed, match="targets version 3"):
        repository.refresh(client)


@pytest.mark.parametrize("size", [bounds.OBJECT + 1, 1 << 40, (1 << 63) - 1, 1 << 63, 1 << 200])
def test_a_root_catalog_larger_than_any_object_is_refused(
    repository: SimulatedRepository, client: Revisions, size: int
) -> None:
    """The catalog is refused before its download, which could fill the memory up to the size stated."""
    repository.publish()
    repository.targets.targets["catalog"].length = size
    repository.bump()
    with pytest.raises(Malformed, match="targets version 3"):
        repository.refresh(client)
    repository.targets.targets["catalog"].length = bounds.OBJECT
    repository.bump()
    assert repository.refresh(client).root.size == bounds.OBJECT


@pytest.mark.parametrize("params", [Params(version=3), Params(features=("holograms",))])
def test_a_revision_that_needs_a_newer_lazyfs_is_reported_and_the_last_one_kept(
    repository: SimulatedRepository, client: Revisions, params: Params
) -> None:
    before = client.serving(repository.now)
    repository.params = params
    repository.publish()
    with pytest.raises(UnsupportedFormat, match="upgrade lazyfs on this machine"):
        repository.refresh(client)
    assert client.serving(repository.now) == before
    assert "upgrade lazyfs" in client.report(repository.now).error
    repository.fetched()
    with pytest.raises(UnsupportedFormat):
        repository.refresh(client)
    assert repository.fetched() == {"timestamp.json": 1}  # not fetched again and again
    repository.params = Params()
    published = repository.publish()
    assert repository.refresh(client) == published


def test_fields_of_a_newer_version_do_not_hide_that_it_is_newer(
    repository: SimulatedRepository, client: Revisions
) -> None:
    repository.publish()
    custom = repository.targets.targets["catalog"].unrecognized_fields["custom"]
    custom["params"] = {"version": 3, "surprise": [1]}
    repository.bump()
    with pytest.raises(UnsupportedFormat, match="needs format version 3"):
        repository.refresh(client)
