"""Objects under way count as the bytes that they are stored in, estimated from those before them."""

from pathlib import Path

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.client.allowance import Allowance
from lazyfs.client.objects import Objects
from lazyfs.client.stored_sizes import LEAST, StoredSizes
from lazyfs.core.digest import ObjectRef, sha256
from tests.support.gate_fetcher import GateFetcher
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object

MIB = 1 << 20
CAME = st.lists(st.tuples(st.integers(0, 5 * MIB), st.integers(1, 4 * MIB)), max_size=40)


@given(CAME, st.integers(1, 16 * MIB))
def test_an_estimate_is_between_a_third_of_the_plaintext_and_all_of_it(
    came: list[tuple[int, int]], size: int
) -> None:
    sizes = StoredSizes()
    for stored, plain in came:
        sizes.came(stored, plain)
    assert size * LEAST <= sizes.of(size) <= size


def test_the_latest_objects_count_most() -> None:
    sizes = StoredSizes()
    assert sizes.of(MIB) == MIB
    for _ in range(100):
        sizes.came(MIB // 10, MIB)
    assert sizes.of(3 * MIB) == MIB
    for _ in range(100):
        sizes.came(MIB, MIB)
    assert sizes.of(MIB) > 0.95 * MIB


async def test_more_objects_are_under_way_if_they_are_compressed(tmp_path: Path) -> None:
    fetcher = GateFetcher(tmp_path)
    seen = store_object(tmp_path, bytes(4 * MIB))
    fetcher.gate.set()
    objects = Objects(fetcher, MemoryCache(), allowance=Allowance(3 * MIB))
    await objects.fetch(seen)
    fetcher.gate.clear()
    refs = [ObjectRef(sha256(b"%d" % number), MIB) for number in range(12)]
    async with trio.open_nursery() as nursery:
        for ref in refs:
            nursery.start_soon(objects.fetch, ref)
        await fetcher.asked(1 + 8)
        await trio.testing.wait_all_tasks_blocked()
        assert len(fetcher.requests) == 1 + 8
        nursery.cancel_scope.cancel()
    objects.close()
