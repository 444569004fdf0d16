"""Fixtures: a published repository, and a runtime directory for each test, whose mounts are removed at the
end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import image, live
from tests.support.repository import Published
from tests.support.runtime_directory import runtime_directory


@pytest.fixture
def published(tmp_path: Path) -> Published:
    found = Published(tmp_path / "published")
    files = {"f": b"1", "big": b"x" * 300_000}
    found.commit(live(found.objects, {"lib": {"a:1": image(found.objects, files)}}))
    return found


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with runtime_directory(tmp_path, monkeypatch) as directory:
        yield directory
