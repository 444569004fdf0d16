"""The attack "extraneous dependencies": metadata that would make a client fetch more than the one catalog."""

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.trust.errors import Malformed
from tests.support.simulated_repository import SimulatedRepository, extra_target

USUAL = {"timestamp.json": 1, "2.root.json": 1, "2.snapshot.json": 1, "2.targets.json": 1}


def test_extra_targets_are_neither_fetched_nor_named(
    repository: SimulatedRepository, client: Revisions
) -> None:
    repository.targets.targets["extra"] = extra_target()
    published = repository.publish()
    assert repository.refresh(client) == published
    assert repository.fetched() == USUAL


def test_delegations_are_not_followed(repository: SimulatedRepository, client: Revisions) -> None:
    key = repository.signers["targets"][0].public_key
    repository.targets.delegations = Delegations(
        {key.keyid: key}, {"other": DelegatedRole("other", [key.keyid], 1, False, paths=["catalog"])}
    )
    published = repository.publish()
    repository.files["1.other.json"] = repository.files["2.targets.json"]
    assert repository.refresh(client) == published
    assert repository.fetched() == USUAL


def test_extra_files_in_the_snapshot_are_not_fetched_and_may_not_vanish(
    repository: SimulatedRepository, client: Revisions
) -> None:
    published = repository.publish()
    repository.snapshot.meta["other.json"] = MetaFile(1)
    repository.write_snapshot()
    assert repository.refresh(client) == published
    assert repository.fetched() == USUAL
    repository.publish()
    with pytest.raises(Malformed, match=r"no longer names other\.json"):
        repository.refresh(client)


def test_a_catalog_under_another_name_is_not_taken(
    repository: SimulatedRepository, client: Revisions
) -> None:
    repository.publish()
    repository.targets.targets["catalog2"] = repository.targets.targets.pop("catalog")
    repository.bump()
    with pytest.raises(Malformed, match="has no target 'catalog'"):
        repository.refresh(client)
