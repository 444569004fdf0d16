"""A repository in memory and a client that has mounted its first revision."""

from pathlib import Path

import pytest

from lazyfs.client.trust.revisions import Revisions
from tests.support.simulated_repository import SimulatedRepository


@pytest.fixture
def repository() -> SimulatedRepository:
    return SimulatedRepository()


@pytest.fixture
def client(repository: SimulatedRepository, tmp_path: Path) -> Revisions:
    client = repository.client(tmp_path)
    repository.refresh(client)
    repository.fetched()
    return client
