"""The division of a daemon's memory, and the limits that control groups state."""

import gc
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.daemon.memory_budget import EASY, TIGHT, budget, kept_part
from lazyfs.system.memory_use import Group, bytes_in, own_bytes, tightest_group

MIB = 1 << 20


@given(st.integers(100, 4000), st.floats(0, 1))
def test_the_shares_leave_room_for_the_daemon_itself(limit: int, kept: float) -> None:
    shares = budget(limit * MIB, kept)
    assert shares.under_way * 3 + shares.shared_files * 1024 <= 0.45 * limit * MIB
    assert shares.catalogs + shares.chunk_lists + shares.answers <= 0.5 * limit * MIB
    assert min(shares) >= 0
    assert budget(limit * MIB, kept / 2).catalogs <= shares.catalogs


@given(st.floats(TIGHT + 0.01, 2))
def test_shortness_empties_in_a_few_looks_and_ease_fills_again(used: float) -> None:
    kept, looks = 1.0, 0
    while kept:
        assert kept_part(kept, used) < kept
        kept, looks = kept_part(kept, used), looks + 1
    assert looks <= 8
    assert kept_part(kept, (TIGHT + EASY) / 2) == 0
    for _ in range(30):
        kept = kept_part(kept, EASY - 0.01)
    assert kept == 1.0


def test_a_group_of_version_2(tmp_path: Path) -> None:
    """The group's page cache is not counted, because the kernel reclaims it by itself."""
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.current").write_text("1000\n")
    (group / "memory.stat").write_text(
        "anon 300\nfile 600\ninactive_file 500\nactive_file 100\nslab_reclaimable 50\n"
    )
    assert bytes_in(Group(str(group), 2000, 2)) == 350
    assert bytes_in(Group(str(tmp_path / "none"), 2000, 2)) == 0


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    (path,) = [path for number, _, path in own if number == "0"]
    inner = tmp_path / path.lstrip("/")
    inner.mkdir(parents=True, exist_ok=True)
    (tmp_path / "memory.max").write_text("max\n")
    assert tightest_group(root=str(tmp_path)) is None
    (inner / "memory.max").write_text("800\n")
    (inner / "memory.high").write_text("500\n")
    found = tightest_group(root=str(tmp_path))
    assert found is not None
    assert (found.limit, found.version, Path(found.directory)) == (500, 2, inner)


def test_what_this_process_takes() -> None:
    gc.collect()  # or what other tests have left is given back meanwhile
    before = own_bytes()
    taken = bytearray(b"x" * (64 * MIB))
    assert own_bytes() - before > 60 * MIB
    del taken
