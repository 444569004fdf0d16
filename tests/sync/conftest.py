"""Registries and services for the tests of one file. A file that wants more in them extends the fixture under
its own name."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import new_repository
from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.registry import RealRegistry, real_registry
from tests.support.service import ServiceSite


@pytest.fixture(autouse=True)
def unforeseen_errors_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Logs the traceback of an error that ends one image only, so that a failed test shows it."""
    caplog.set_level(logging.DEBUG, "lazyfs.sync")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """Yields an empty registry in which a test can choose the faults that clients meet."""
    with fake_registry() as registry:
        yield registry


@pytest.fixture
def site(tmp_path: Path, registry: FakeRegistry) -> ServiceSite:
    """Returns a service that has never run, and to which the registry is r.example."""
    return ServiceSite(tmp_path / "site", {"r.example": registry.host})


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """Yields a real registry without accounts."""
    with real_registry(tmp_path_factory.mktemp("registry"), accounts_needed=False) as registry:
        yield registry


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a directory with an empty repository. Tests copy it so that all root catalogs have the time of
    the same `init`."""
    directory = tmp_path_factory.mktemp("new")
    new_repository(directory)
    return directory
