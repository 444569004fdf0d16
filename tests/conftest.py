"""Rules for every test: who may run it, and that none is skipped without saying so. A place for all users."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need root are skipped for a user, by name, in pytest's summary."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under tools/test a skipped test has failed: the script installs what the tests need."""
    report = yield
    skipped_by_itself = report.skipped and not hasattr(report, "wasxfail")
    if skipped_by_itself and os.environ.get("LAZYFS_NO_SKIP") == "1" and not item.get_closest_marker("root"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="module")
def open_path_factory() -> Iterator[Path]:
    """A place that other users can get to: pytest's own directories are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="lazyfs-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def open_path(open_path_factory: Path) -> Path:
    """A fresh directory that everybody may enter."""
    path = Path(tempfile.mkdtemp(dir=open_path_factory))
    path.chmod(0o755)
    return path
