"""Both sessions, and a place that other users can get to: pytest's own directories are closed to them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.daemon.session_choice import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of session in turn."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def open_path_factory() -> Iterator[Path]:
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
