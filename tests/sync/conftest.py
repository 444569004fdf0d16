"""A registry for the tests of one file."""

from collections.abc import Iterator

import pytest

from tests.support.registry import RealRegistry, real_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """Yields a real registry without accounts."""
    with real_registry(tmp_path_factory.mktemp("registry"), accounts_needed=False) as registry:
        yield registry
