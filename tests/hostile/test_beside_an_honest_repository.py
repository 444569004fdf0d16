"""A mount of an honest and a hostile repository: programs in the honest one notice nothing of the hostile
one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.daemon.session_choice import KINDS
from tests.support.counts import count
from tests.support.hostile_site import Site, attack, honest_repository, hostile_repository, mounted
from tests.support.repository import Published

pytestmark = pytest.mark.root

STEP = count(61, 1)
"""One in STEP of the hostile changes is tried."""
MEMORY = 150 << 20


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, Published]:
    directory = tmp_path_factory.mktemp("stores")
    return honest_repository(directory / "honest"), hostile_repository(directory / "hostile", STEP)


@pytest.fixture(params=KINDS)
def site(
    request: pytest.FixtureRequest,
    stores: tuple[Published, Published],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    with mounted(tmp_path, request.param, *stores, "--cache-limit", "64M") as site:
        yield site


@pytest.mark.timeout(count(120, 3600))
@pytest.mark.parametrize("part", ["changed", "lists", "profiles", "large"])
def test_nothing_ends_and_nothing_changes(site: Site, part: str) -> None:
    before = site.honest()
    assert len(before) > 100
    cached = site.cached()
    assert len(cached) > 30
    idle = site.memory()
    site.forget_peak()
    answered = 0
    for image in sorted((site.mnt / "hostile" / part).iterdir()):
        answered += attack(image, most=count(400, 20_000))
    assert answered > 20
    assert site.honest() == before
    if part != "large":  # reads of `large` succeed, 16 MiB at a time, and may push values out
        assert cached <= site.cached(), "reads that fail have pushed something out"
    told = site.status()
    assert told["pid"] == site.pid
    assert set(told["repositories"]) == {"honest", "hostile"}
    assert "Traceback" not in site.log.read_text()
    assert site.memory("VmHWM") <= idle + MEMORY
