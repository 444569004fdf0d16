"""Bind sources on a filesystem that never answers, as NFS does without its server."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import RunOptions, prepare
from lazyfs.runtimes.launch import Bind
from tests.support.processes import frozen
from tests.support.until import until

pytestmark = pytest.mark.root


@contextmanager
def _silent_filesystem(directory: Path) -> Iterator[Path]:
    """Mounts a FUSE filesystem and stops its server."""
    (directory / "files").mkdir()
    (directory / "silent").mkdir()
    image, point = directory / "image.squashfs", directory / "silent"
    subprocess.run(["mksquashfs", directory / "files", image, "-quiet"], check=True, capture_output=True)
    with subprocess.Popen(["squashfuse", "-f", image, point]) as server:
        try:
            until(lambda: point.stat().st_dev != directory.stat().st_dev)
            with frozen(server.pid):
                yield point
        finally:
            subprocess.run(["umount", "--lazy", point], check=True)
            server.kill()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "root/bin").mkdir(parents=True)
    return tmp_path / "root"


def test_a_source_that_does_not_answer_is_left_out_or_refused(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["lazyfs.runtimes.start"], "SOURCE_SECONDS", 1.0)
    with _silent_filesystem(tmp_path) as silent:
        source = str(silent / "data")
        there, missing = Bind("/usr", "/usr"), Bind("/missing/here", "/m")
        said: list[str] = []
        options = RunOptions((Bind(source, "/d"), there, missing))
        prepared = prepare(str(image), ("/bin/true",), options, warn=said.append)
        assert prepared.launch.binds == (there,)
        assert said == [
            f"bind source {source} is on a filesystem that did not answer in 1 s; it is left out",
            "bind source /missing/here does not exist on this machine; it is left out",
        ]
        required = RunOptions((there, Bind(source, "/d", required=True)))
        with pytest.raises(UsageError, match="did not answer in 1 s, and is required"):
            prepare(str(image), ("/bin/true",), required, warn=said.append)
