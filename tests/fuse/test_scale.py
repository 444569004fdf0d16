"""A large repository costs a mount in proportion to what is used, not to the repository's size."""

from pathlib import Path

import pytest

from benchmarks.scale.__main__ import run
from tests.support.counts import count

pytestmark = pytest.mark.root


@pytest.mark.timeout(900)
def test_memory_and_requests_follow_what_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    images = count(300, 10_000)
    found = run(images, tmp_path)
    print(found)
    assert found["files"] >= images * 1000
    after = {row["step"]: row for row in found["steps"]}
    assert after["mount"]["objects"] <= 1
    assert after["ls of the registry"]["objects"] <= 2
    # .flat, one of its shelves, the image, and its /usr
    assert after["walk the image"]["objects"] <= 6
    assert after["walk a second of its family"]["objects"] <= 8
    assert after["walk a second of its family"]["catalogs"] <= 9
    assert after["walk a second of its family"]["slots"] <= 16
    # 10,000 names of the registry take about 20 MiB; 10 million files would take gigabytes
    assert after["walk a second of its family"]["rss_mib"] < after["mount"]["rss_mib"] + 64
    assert (
        after["ls -l of the registry again"]["upcalls"] <= after["walk a second of its family"]["upcalls"] + 2
    )
