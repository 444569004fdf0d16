"""A hostile repository, whose chunk lists, profiles, hot packs and metadata Hypothesis draws, mounted beside
an honest one. The mount survives, and the honest repository stays as it was."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lazyfs.daemon.session_choice import KINDS
from tests.support.counts import count
from tests.support.hostile_metadata import HostileMetadata, MetadataChange, changes
from tests.support.hostile_objects import HostileFile, HostileProfile, files, profiles, published
from tests.support.hostile_site import Site, attack, honest_repository, mounted
from tests.support.repository import Published

pytestmark = [pytest.mark.root, pytest.mark.timeout(count(120, 3600))]

MEMORY = 150 << 20
FUZZ = settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@pytest.fixture(params=KINDS)
def session(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    kind: str = request.param
    return kind


@contextmanager
def attacked(directory: Path, session: str) -> Iterator[tuple[Site, Published]]:
    """Mounts an honest repository, and one that the test changes. Asserts at the end that the honest one
    looks as before."""
    honest, hostile = (
        honest_repository(directory / "honest"),
        Published(directory / "hostile", "h.example.org"),
    )
    published(hostile, [], [])
    with mounted(directory, session, honest, hostile, "--cache-limit", "64M") as site:
        before = {path: found[1:] for path, found in site.honest().items()}  # without inode numbers
        assert list((site.mnt / "hostile").iterdir()) == []  # from now on it is looked after
        idle = site.memory()
        site.forget_peak()
        yield site, hostile
        assert {path: found[1:] for path, found in site.honest().items()} == before
        told = site.status()
        assert told["pid"] == site.pid
        assert set(told["repositories"]) == {"honest", "hostile"}
        assert "Traceback" not in site.log.read_text()
        assert site.memory("VmHWM") <= idle + MEMORY


def refresh(site: Site) -> subprocess.CompletedProcess[str]:
    """Makes the daemon look for new revisions, which may fail for the hostile repository. Returns the
    completed command."""
    command = [sys.executable, "-m", "lazyfs", "refresh", str(site.mnt)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    return done


def test_any_chunk_lists_profiles_and_hot_packs(session: str, tmp_path: Path) -> None:
    with attacked(tmp_path, session) as (site, hostile):
        shown = []

        @settings(FUZZ, max_examples=count(3, 100))
        @given(st.lists(files(), min_size=8, max_size=20), st.lists(profiles(), min_size=8, max_size=20))
        def draw(some: list[HostileFile], lists: list[HostileProfile]) -> None:
            published(hostile, some, lists)
            done = refresh(site)
            assert done.returncode == 0, done.stderr
            names = sorted((site.mnt / "hostile").iterdir())
            shown.append(len(names))
            assert sum(attack(image, most=200) for image in names) >= len(names)

        draw()
        assert max(shown) >= 16


def test_any_metadata_but_roots(session: str, tmp_path: Path) -> None:
    with attacked(tmp_path, session) as (site, hostile):
        metadata = HostileMetadata(hostile)
        refused = []

        @settings(FUZZ, max_examples=count(4, 500))
        @given(changes("timestamp", "snapshot", "targets"))
        @example(MetadataChange("targets", 0, "no type", False))
        def draw(change: MetadataChange) -> None:
            if metadata.write(change):
                refused.append(refresh(site).returncode != 0)
                assert site.status()["repositories"]["honest"]["warning"] == ""

        draw()
        assert any(refused), "the daemon has read it"


def test_any_next_root(session: str, tmp_path: Path) -> None:
    """A hostile root (the metadata file with the keys) that is accepted may lock out its own repository for
    good. So each mount is offered only a few roots."""
    drawn: list[int] = []

    @settings(FUZZ, max_examples=count(1, 40))
    @given(st.lists(changes("root"), min_size=2, max_size=count(3, 8)))
    def draw(some: list[MetadataChange]) -> None:
        drawn.append(1)
        place = tmp_path / str(len(drawn))
        place.mkdir()
        with attacked(place, session) as (site, hostile):
            metadata = HostileMetadata(hostile)
            for change in some:
                if metadata.write(change):
                    refresh(site)
                    assert site.status()["repositories"]["honest"]["warning"] == ""

    draw()
