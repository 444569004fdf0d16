"""Rules for every test: tests that need root are skipped for other users, and tools/test lets no test be
skipped. Directories that all users can enter."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.drawn_inputs import load_profile
from tests.support.measured import measured as measured
from tests.support.measured import measured_lines
from tests.support.private_mount_table import leave_shared_mount_table
from tests.support.radosgw import Radosgw, radosgw

load_profile()

_TEMPORARY = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Gives each process of root's run a mount table of its own. A container that a test starts has copies of
    all mounts in its table. So a test that unmounts would have to wait for the containers of the tests beside
    it.

    Gives each run of pytest a top directory of its own, instead of the shared /tmp/pytest-of-USER. pytest
    closes the shared one to other users whenever a run begins. So a second run on the machine would make
    tests of the first run fail: those that start programs as another user."""
    if os.geteuid() == 0:
        with suppress(PermissionError):  # where root may not mount, nothing is mounted
            leave_shared_mount_table()
    if not hasattr(config, "workerinput") and config.option.basetemp is None:
        config.stash[_TEMPORARY] = os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.mkdtemp(prefix="t-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Removes the top directory that `pytest_configure` has made, unless a test has failed."""
    if exitstatus == 0 and _TEMPORARY in session.config.stash:
        shutil.rmtree(session.config.stash[_TEMPORARY], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that need root when a user runs them; pytest's summary names each."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skipped test into a failed one under tools/test, because that script installs everything the
    tests need."""
    report = yield
    skipped_by_itself = report.skipped and not hasattr(report, "wasxfail")
    if skipped_by_itself and os.environ.get("LAZYFS_NO_SKIP") == "1" and not item.get_closest_marker("root"):
        report.outcome = "failed"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests have measured."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    if lines := list(measured_lines(reports)):
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radosgw]:
    """Yields the S3 server that the processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    with radosgw(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) as server:
        yield server


@pytest.fixture(scope="module")
def open_path_factory() -> Iterator[Path]:
    """Yields a directory that other users can enter: pytest's own directories are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="lazyfs-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def open_path(open_path_factory: Path) -> Path:
    """Returns a fresh directory that all users may enter."""
    path = Path(tempfile.mkdtemp(dir=open_path_factory))
    path.chmod(0o755)
    return path
