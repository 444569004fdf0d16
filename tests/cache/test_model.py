"""The cache against a model: the values in it, their eviction order, and the space that they take.

The upkeep thread is off, so that every change is the test's own and the order of use is exact.
"""

import os
import random
import shutil
import tempfile
import threading
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lazyfs_cache import Cache, PinSetTooLarge
from lazyfs_cache import open_caches as opened
from lazyfs_cache.files import layout
from lazyfs_cache.files import state_file as state
from lazyfs_cache.policy import sizes
from tests.support.counts import count
from tests.support.usage import disk_usage

pytestmark = pytest.mark.timeout(1200)
KEYS = [bytes((number,)) * 8 for number in range(40)]
LIMITS = [3 << 20, 4 << 20, 6 << 20]
LARGEST_BATCH = 9
SIZES = [0, 1, 4000, 50_000, 65_536, 70_000, 200_000, 400_000]


def value_for(key: bytes, size: int) -> bytes:
    return random.Random(key).randbytes(size)


def kill(cache: Cache) -> None:
    """Leaves the cache as SIGKILL would: nothing is written or unlocked in an orderly way."""
    opened._open.pop(cache.root)
    cache._shared.generation.index.close()
    cache._shared.generation.journal.close()
    cache.abandon()


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.limit = LIMITS[0]
        self.values: dict[bytes, bytes] = {}
        self.order: list[bytes] = []  # least recently used first
        self.pins: dict[bytes, set[bytes]] = {}
        self.kept: dict[bytes, list[bytes]] = {}
        self.cache = self.open()

    def open(self, policy: state.Policy | None = None) -> Cache:
        return opened.open_cache(str(self.root / "c"), self.limit, upkeep=False, policy=policy)

    def teardown(self) -> None:
        self.cache.close()
        shutil.rmtree(self.root)

    # -- the model ---------------------------------------------------------------------------------------

    def pinned(self) -> set[bytes]:
        kept = {key for keys in self.kept.values() for key in keys}
        return {key for key, owners in self.pins.items() if owners} | kept

    def use(self, key: bytes) -> None:
        if key in self.order:
            self.order.remove(key)
        self.order.append(key)

    def forget(self, key: bytes) -> None:
        self.values.pop(key, None)
        self.pins.pop(key, None)
        if key in self.order:
            self.order.remove(key)

    def see_evictions(self) -> list[bytes]:
        """Asserts that the evicted values are the least recently used ones. Removes them from the model, and
        returns their keys."""
        pinned = self.pinned()
        gone = [key for key in self.order if self.cache.size(key) is None]
        candidates = [key for key in self.order if key not in pinned]
        assert gone == candidates[: len(gone)]
        for key in gone:
            self.forget(key)
        return gone

    # -- the events --------------------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS), size=st.sampled_from(SIZES), reserve=st.booleans())
    def put(self, key: bytes, size: int, reserve: bool) -> None:
        value = self.values.get(key, value_for(key, size))
        before = self.cache.stats()
        held = self.cache.reserve(key, len(value)) if reserve else None
        gone = self.see_evictions()  # the reservation may have evicted the key's own value
        assert self.cache.put(key, value, held) or not self.fits(key, len(value))
        if self.cache.size(key) is not None:
            self.values[key] = value
            self.use(key)
        if self.see_evictions() or gone:
            room = sizes.slack(self.limit) + 2 * sizes.allowance(self.limit) + self.limit // 32
            assert before.charged + 2 * len(value) + room > self.limit, "evicted without need"

    @rule(
        sizes_of=st.dictionaries(
            st.sampled_from(KEYS), st.sampled_from(SIZES), min_size=1, max_size=LARGEST_BATCH
        )
    )
    def put_many(self, sizes_of: dict[bytes, int]) -> None:
        batch = {key: self.values.get(key, value_for(key, size)) for key, size in sizes_of.items()}
        before = self.cache.stats()
        answers = dict(zip(batch, self.cache.put_many(list(batch.items())), strict=True))
        new = [key for key in batch if key not in self.values]
        for key in batch:
            if key not in new:
                self.use(key)
        gone = self.see_evictions()
        for key, here in answers.items():
            assert here == (self.cache.size(key) is not None)
        for key in new:
            if answers[key]:
                self.values[key] = batch[key]
                self.use(key)
        bytes_of_all = sum(map(len, batch.values()))
        if not all(answers.values()):
            assert not all(self.fits(key, bytes_of_all + 8192 * len(batch)) for key in batch)
        if self.see_evictions() or gone:
            room = sizes.slack(self.limit) + 2 * sizes.allowance(self.limit) + self.limit // 32
            assert before.charged + 2 * (bytes_of_all + 8192 * len(batch)) + room > self.limit, "without need"

    def fits(self, key: bytes, size: int) -> bool:
        """Returns True if a value certainly has room: with it, the pinned values take less than half of the
        limit."""
        pinned = sum(len(self.values.get(key, b"")) + 8192 for key in self.pinned())
        return size + pinned < self.limit // 2

    @rule(key=st.sampled_from(KEYS))
    def get(self, key: bytes) -> None:
        assert self.cache.get(key) == self.values.get(key)
        if key in self.values:
            self.use(key)

    @rule(key=st.sampled_from(KEYS), offset=st.integers(0, 500_000), length=st.integers(0, 200_000))
    def read(self, key: bytes, offset: int, length: int) -> None:
        value = self.values.get(key)
        expected = None if value is None else value[offset : offset + length]
        assert self.cache.read(key, offset, length) == expected
        if value is not None:
            self.use(key)

    @rule(key=st.sampled_from(KEYS), owner=st.sampled_from([b"a", b"b"]))
    def pin(self, key: bytes, owner: bytes) -> None:
        try:
            assert self.cache.pin(key, owner) == (key in self.values)
        except PinSetTooLarge:
            assert key in self.values
        else:
            if key in self.values:
                self.pins.setdefault(key, set()).add(owner)

    @rule(key=st.sampled_from(KEYS), owner=st.sampled_from([b"a", b"b"]))
    def unpin(self, key: bytes, owner: bytes) -> None:
        self.cache.unpin(key, owner)
        self.pins.get(key, set()).discard(owner)

    @rule(label=st.sampled_from([b"x", b"y"]), keys=st.lists(st.sampled_from(KEYS), max_size=4))
    def keep(self, label: bytes, keys: list[bytes]) -> None:
        try:
            pinned = self.cache.keep(label, {key: len(self.values.get(key, b"")) for key in keys})
        except PinSetTooLarge:
            self.see_evictions()  # values may have been evicted to make room for the rows of the set
            return
        self.see_evictions()
        assert pinned == len({key for key in keys if key in self.values})
        self.kept[label] = keys

    @rule(label=st.sampled_from([b"x", b"y"]))
    def drop(self, label: bytes) -> None:
        dropped = self.cache.drop(label)
        self.see_evictions()
        assert dropped == len(set(self.kept.pop(label, [])))

    @rule(key=st.sampled_from(KEYS))
    def discard(self, key: bytes) -> None:
        self.cache.discard(key)
        assert self.cache.size(key) is None
        self.forget(key)

    @rule(key=st.sampled_from(KEYS), place=st.floats(0, 1))
    def damage(self, key: bytes, place: float) -> None:
        path = self.root / "c" / "data" / layout.name_of(key)
        if key not in self.values:
            return
        content = bytearray(path.read_bytes())
        content[min(int(len(content) * place), len(content) - 1)] ^= 1
        path.write_bytes(content)
        assert self.cache.get(key) is None
        self.cache.stats()
        self.cache.discard(key)
        self.forget(key)

    @rule(wanted=st.sampled_from([1, 100_000, 1_000_000]))
    def evict(self, wanted: int) -> None:
        free = [key for key in self.order if key not in self.pinned()]
        self.cache.evict(wanted)
        gone = self.see_evictions()
        assert gone or not free

    @precondition(lambda self: self.order)
    @rule()
    def outlive(self) -> None:
        """Pins the least recently used value, evicts the one after it in the order, and unpins the pinned
        value again."""
        key = self.order[0]
        self.pin(key, b"a")
        self.evict(1)
        self.unpin(key, b"a")

    @rule(limit=st.sampled_from(LIMITS))
    def resize(self, limit: int) -> None:
        try:
            self.cache.resize(limit)
        except PinSetTooLarge:
            assert self.pinned()
            return
        self.limit = limit
        self.see_evictions()

    @rule()
    def upkeep(self) -> None:
        self.cache.upkeep()
        self.see_evictions()
        stats = self.cache.stats()
        occupied = disk_usage(self.root / "c")
        assert stats.charged * 0.98 <= occupied <= stats.charged, "settled, so equal"

    @rule()
    def reopen(self) -> None:
        self.cache.close()
        self.cache = self.open()
        self.pins.clear()
        self.see_evictions()

    @rule(
        key=st.sampled_from(KEYS), label=st.sampled_from([b"x", b"y"]), wanted=st.sampled_from([0, 300_000])
    )
    def sieve_for_a_while(self, key: bytes, label: bytes, wanted: int) -> None:
        """Evicts by SIEVE, from the middle of the queue. The remaining values keep their order."""
        self.cache.close()
        self.cache = self.open("sieve")
        self.pins.clear()
        self.drop(label)
        value = self.values.get(key, value_for(key, 70_000))
        if self.cache.put(key, value) and key not in self.values:
            self.values[key] = value
            self.use(key)
        if wanted:
            self.cache.evict(wanted)
        for gone in [key for key in self.order if self.cache.size(key) is None]:
            assert gone not in self.pinned()
            self.forget(gone)
        self.cache.close()
        self.cache = self.open("lru")
        self.see_evictions()

    @rule()
    def crash(self) -> None:
        on_their_way = [value.key for value in self.cache._shared.generation.arrivals._waiting]
        kill(self.cache)
        self.cache = self.open()
        self.pins.clear()
        for key in on_their_way:
            if self.cache.size(key) is None:
                self.forget(key)
        self.establish_order()

    @rule()
    def reboot(self) -> None:
        """Reopens the cache as after a power cut. Since the cache was not closed cleanly, its index is not
        trusted."""
        kill(self.cache)
        root = str(self.root / "c")
        found = state.load(root)
        assert found is not None
        found.boot = "another"
        state.save(root, found)
        self.tear_index()  # if the index were opened all the same, it would be set aside
        self.reopened_without_index()
        assert not (self.root / "c" / layout.ASIDE).exists()

    @rule()
    def index_damaged(self) -> None:
        kill(self.cache)
        self.tear_index()
        self.reopened_without_index()
        assert (self.root / "c" / layout.ASIDE).exists()

    def tear_index(self) -> None:
        found = state.load(str(self.root / "c"))
        assert found is not None
        (self.root / "c" / f"index-{found.generation}" / "data.mdb").write_bytes(bytes(40_000))

    def reopened_without_index(self) -> None:
        self.cache = self.open()
        assert not self.values or self.cache.stats().state == "rebuilding"
        self.check_bound()
        self.cache.upkeep()
        assert self.cache.stats().state == "on"
        assert self.cache.stats().entries == len(self.values)
        self.pins.clear()
        self.establish_order()

    def establish_order(self) -> None:
        """Uses every value in the model's order, because the crash has lost uses that were not yet
        written."""
        for key in self.order:
            assert self.cache.get(key) == self.values[key]

    @precondition(lambda self: self.values)
    @rule(data=st.data())
    def readers_beside_a_writer(self, data: st.DataObject) -> None:
        """Reads everything in threads while values come and go; asserts that every value read is right."""
        stop = threading.Event()
        wrong: list[bytes] = []

        def reader() -> None:
            while not stop.is_set():
                for key in KEYS:
                    got = self.cache.get(key)
                    if got is not None and got != value_for(key, len(got)):
                        wrong.append(key)

        threads = [threading.Thread(target=reader) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for key in data.draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=10)):
                self.cache.put(key, value_for(key, 100_000))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not wrong
        self.values = {key: got for key in KEYS if (got := self.cache.get(key)) is not None}
        self.order = [key for key in KEYS if key in self.values]
        self.pins = {key: owners for key, owners in self.pins.items() if key in self.values}

    # -- the invariants ----------------------------------------------------------------------------------

    @invariant()
    def all_uses_can_be_written(self) -> None:
        """Writes the pending uses before they exceed one transaction. Otherwise a value whose use was not
        written would keep its old place in the order."""
        uses = self.cache._uses
        most = sizes.uses_per_transaction(self.limit) - LARGEST_BATCH
        if uses.left or self.cache._suspects or len(uses._used) > most:
            self.cache.upkeep()
            self.see_evictions()

    @invariant()
    def check_bound(self) -> None:
        stats = self.cache.stats()
        assert disk_usage(self.root / "c") <= stats.charged <= stats.limit == self.limit

    @invariant()
    def what_should_be_here_is(self) -> None:
        for key in KEYS:
            value = self.values.get(key)
            assert self.cache.size(key) == (None if value is None else len(value))

    @invariant()
    def the_index_names_what_is_here(self) -> None:
        # `settle` enters the values that wait; `account` alone may show old sums (it hardly waits).
        assert self.cache._shared.settle()
        sums = self.cache._shared.account().sums
        assert [key for key, _ in self.cache.entries()] == sorted(self.values)
        assert sums.entries == len(self.values)
        assert 0 <= sums.ghosts <= 0.18 * sums.entries

    @invariant()
    def nothing_is_left_in_tmp(self) -> None:
        spares = self.cache._shared.generation.allowance._spares
        assert len(os.listdir(self.root / "c" / "tmp")) == 1 + len(spares)  # the journal, files to write over


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=count(25, 300),
    stateful_step_count=count(40, 80),
    suppress_health_check=list(HealthCheck),
)
