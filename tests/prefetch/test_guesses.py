"""Objects that are fetched on a guess: only while no reader waits, within the budget, and without evicting
other values."""

import stat
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.client.demand import Demand
from lazyfs.client.objects import Objects
from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import ObjectRef, object_path, ref_of
from lazyfs.core.pack import NO_PACKS
from lazyfs.prefetch.guess_budget import FREE, SHARE, GuessBudget, room_in
from lazyfs.prefetch.guesses import AT_ONCE, WAITING, Guesses
from lazyfs.vfs.paths_in_images import FileInImage
from tests.support.gate_fetcher import GateFetcher
from tests.support.images import Objects as Made
from tests.support.images import file
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object, store_objects

ROOM = 1 << 30


class Scene:
    """Guessed prefetches from a store whose answers wait until the test opens a gate."""

    def __init__(self, directory: Path, room: int = ROOM) -> None:
        self.fetcher, self.cache = GateFetcher(directory), MemoryCache()
        self.objects = Objects(self.fetcher, self.cache)
        self.demand, self.budget = Demand(), GuessBudget()
        self.guesses = Guesses(self.objects, self.demand, lambda: room, self.budget)


def files_of(refs: Iterable[ObjectRef]) -> list[FileInImage]:
    """Returns files with one object each."""
    made = [Entry(b"file", stat.S_IFREG | 0o644, 0, 0, 0, ref.size, ref.digest) for ref in refs]
    return [FileInImage(entry, NO_PACKS, b"") for entry in made]


def forget(_: FileInImage) -> None:
    """Does nothing when a file has come."""


async def test_nothing_is_begun_while_a_call_waits(tmp_path: Path) -> None:
    refs, scene = list(store_objects(tmp_path, 6, 1000)), Scene(tmp_path)
    scene.demand.began()
    scene.guesses.add(files_of(refs), forget)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.fetcher.requests == []
    scene.demand.ended()
    await scene.fetcher.asked(AT_ONCE)
    scene.demand.began()
    scene.fetcher.gate.set()
    while len(scene.cache.proven) < AT_ONCE:
        await trio.sleep(0.001)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(scene.fetcher.requests) == AT_ONCE
    scene.demand.ended()
    while len(scene.cache.proven) < len(refs):
        await trio.sleep(0.001)
    assert scene.budget.counts().objects == len(refs)


async def test_what_is_read_later_is_used_and_the_rest_wasted(tmp_path: Path) -> None:
    refs, scene = list(store_objects(tmp_path, 3, 1000)), Scene(tmp_path)
    scene.fetcher.gate.set()
    scene.guesses.add(files_of(refs), forget)
    while len(scene.cache.proven) < 3:
        await trio.sleep(0.001)
    scene.budget.used(refs[0].digest)
    scene.budget.used(refs[0].digest)
    scene.budget.used(ref_of(b"not guessed").digest)
    counts = scene.budget.counts()
    assert (counts.objects, counts.bytes) == (3, 3000)
    assert (counts.used_objects, counts.used_bytes, counts.dropped) == (1, 1000, 0)


async def test_a_file_comes_with_its_chunk_list_and_all_chunks(tmp_path: Path) -> None:
    made, scene = Made(), Scene(tmp_path)
    inode = file(made, bytes(range(256)) * 1000, shift=16)
    for plain in made.values():
        store_object(tmp_path, plain)
    entry = Entry(b"liba.so", inode.mode, 0, 0, 0, inode.size, inode.content, inode.detail)
    wanted, ended = FileInImage(entry, NO_PACKS, b""), list[FileInImage]()
    scene.fetcher.gate.set()
    scene.guesses.add([wanted], ended.append)
    while not ended:
        await trio.sleep(0.001)
    assert sorted(scene.fetcher.requests) == sorted(map(object_path, made))
    assert ended == [wanted]


def test_a_file_of_which_a_part_is_used_counts_as_used() -> None:
    budget = GuessBudget()
    refs = [ObjectRef(ref_of(b"%d" % at).digest, 10) for at in range(4)]
    budget.take(refs[0], b"file")
    budget.take(refs[1], b"file")
    budget.take(refs[2], b"other")
    budget.used(refs[1].digest)
    assert budget.counts()[2:4] == (2, 20)
    budget.take(refs[3], b"file")
    assert budget.counts()[2:4] == (3, 30)
    assert budget.outstanding == 10


async def test_a_full_cache_loses_nothing_to_guesses(tmp_path: Path) -> None:
    refs, scene = list(store_objects(tmp_path, 3, 1000)), Scene(tmp_path, room=1500)
    scene.fetcher.gate.set()
    scene.guesses.add(files_of(refs), forget)
    while scene.budget.dropped < 2 or not scene.cache.proven:
        await trio.sleep(0.001)
    assert len(scene.cache.proven) == 1


async def test_a_failed_guess_costs_nothing_and_ends_nothing(tmp_path: Path) -> None:
    (good,), scene = list(store_objects(tmp_path, 1, 1000)), Scene(tmp_path)
    scene.fetcher.gate.set()
    scene.guesses.add(files_of([ref_of(b"nowhere"), good]), forget)
    while not scene.cache.proven:
        await trio.sleep(0.001)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert scene.budget.counts()[:2] == (1, 1000)


async def test_old_guesses_make_way_for_new_ones(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.demand.began()
    scene.guesses.add(files_of(ref_of(b"%d" % at) for at in range(WAITING + 5)), forget)
    assert scene.budget.dropped == 5


@pytest.mark.parametrize(
    ("space", "room"), [(None, 0), ((6400, 0), 6080), ((6400, 5980), 100), ((6400, 6400), 100)]
)
def test_the_room_for_guesses(space: tuple[int, int] | None, room: int) -> None:
    assert room_in(space) == room


sizes = st.integers(1, 4 << 20)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("asked"), sizes),
            st.tuples(st.just("guess"), sizes),
            st.tuples(st.just("used"), st.integers(0, 30)),
            st.tuples(st.just("failed"), st.integers(0, 30)),
        ),
        max_size=60,
    ),
    st.integers(0, 64 << 20),
)
def test_unused_bytes_stay_within_the_budget(steps: list[tuple[str, int]], most: int) -> None:
    """Reads, guesses, uses and failures come in any order. The bytes that were fetched on guesses and not yet
    used stay below both bounds."""
    budget, asked, guessed = GuessBudget(), 0, list[ObjectRef]()
    for what, value in steps:
        if what == "asked":
            budget.asked(value)
            asked += value
        elif what == "guess":
            ref = ObjectRef(ref_of(b"%d" % len(guessed)).digest, value)
            if budget.has_room(ref, most):
                budget.take(ref, b"file %d" % (value % 3) if value % 4 else b"")
                guessed.append(ref)
        elif guessed and what == "used":
            budget.used(guessed[value % len(guessed)].digest)
        elif guessed:
            budget.give_back(guessed[value % len(guessed)])
        counts = budget.counts()
        unused = sum(one.size for one in budget.unused.values())
        assert budget.outstanding == unused == counts.bytes - counts.used_bytes
        assert unused <= min(FREE + SHARE * asked, most)
        assert 0 <= counts.used_objects <= counts.objects


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["began", "ended", "guess"]), max_size=40))
def test_guesses_begin_only_between_the_waits(steps: list[str]) -> None:
    """Whatever the order of the readers' waits, a guessed object is requested only while no reader waits. In
    the end, all guessed objects have been requested."""

    class Recorded:
        keeps = True

        def __init__(self) -> None:
            self.begun: list[int] = []

        def is_at_hand(self, _: ObjectRef) -> bool:
            return False

        async def fetch(self, _: ObjectRef, *, ahead: bool) -> bytes:
            assert ahead
            self.begun.append(demand.calls)
            await trio.sleep(1)
            return b""

    demand, objects = Demand(), Recorded()

    async def main() -> None:
        guesses = Guesses(objects, demand, lambda: ROOM, GuessBudget())  # type: ignore[arg-type]
        for at, step in enumerate(steps):
            if step == "guess":
                guesses.add(files_of([ObjectRef(ref_of(b"%d" % at).digest, 1)]), forget)
            elif step == "began":
                demand.began()
            elif demand.calls:
                demand.ended()
            await trio.sleep(0.3)
        while demand.calls:
            demand.ended()
        await trio.sleep(1000)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.002))
    assert objects.begun == [0] * steps.count("guess")
