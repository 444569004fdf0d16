"""The bundles of a profile are fetched into the cache in few requests. Readers wait for these requests
instead of making their own. Wrong bundles do no harm."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from lazyfs.client.objects import Objects
from lazyfs.core import bundle, profile
from lazyfs.core.codec import encode
from lazyfs.core.digest import Digest, ObjectRef, object_path, sha256
from lazyfs.prefetch.profile_schedule import FAILURES, PROFILES
from lazyfs.prefetch.profiles import AT_ONCE, ProfilePrefetch
from lazyfs.prefetch.queue import PrefetchQueue
from lazyfs.transport.fetcher import Request, never_cancelled
from lazyfs.transport.local import LocalFetcher
from tests.support.gate_fetcher import GateFetcher
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object, store_objects


class Fetcher(GateFetcher):
    """A fetcher whose answers wait for a gate, except those for the paths in `free`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.directory = directory
        self.free: set[str] = set()
        self.deadlines: dict[str, float] = {}

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        self.deadlines[request.path] = request.deadline
        if request.path in self.free:
            self.requests.append(request.path)
            return LocalFetcher(str(self.directory)).fetch(request, check_cancelled)
        return super().fetch(request, check_cancelled)


class World:
    """A store with a profile of two bundles of four objects each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plains = store_objects(directory, 8, 1000)
        refs = list(self.plains)
        self.halves = (refs[:4], refs[4:])
        self.bundles = [self.store_bundle(half) for half in self.halves]
        self.profile = store_object(directory, profile.encode(self.bundles))
        self.fetcher = Fetcher(directory)
        self.cache = MemoryCache()
        self.limit = 1 << 30
        self.objects = Objects(self.fetcher, self.cache)
        self.profiles = ProfilePrefetch(self.objects, self.fetcher, lambda: self.limit)

    def store_bundle(self, refs: list[ObjectRef]) -> profile.Bundle:
        encoded = bundle.encode([(ref, encode(self.plains[ref])) for ref in refs])
        made = profile.Bundle(len(encoded), tuple(refs))
        self.file(made.name).parent.mkdir(parents=True, exist_ok=True)
        self.file(made.name).write_bytes(encoded)
        return made

    def file(self, name: Digest) -> Path:
        return self.directory / object_path(name)

    def paths(self) -> list[str]:
        return [object_path(self.profile.digest), *(object_path(one.name) for one in self.bundles)]

    def here(self) -> set[ObjectRef]:
        return {ref for ref in self.plains if ref.digest in self.cache.proven}

    async def run(self) -> None:
        """Opens the gate, starts the profile and waits for its end."""
        self.fetcher.gate.set()
        self.profiles.start(self.profile)
        await self.ended()

    async def ended(self) -> None:
        with trio.fail_after(10):
            while True:
                await trio.testing.wait_all_tasks_blocked()
                if not any(task.name.startswith("profile ") for task in _tasks()):
                    return
                await trio.sleep(0.005)


def _tasks() -> list[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, new = [], [root]
    while new:
        task = new.pop()
        found.append(task)
        new += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_everything_comes_in_a_request_for_each_bundle_and_once(world: World) -> None:
    await world.run()
    assert world.here() == set(world.plains)
    assert sorted(world.fetcher.requests) == sorted(world.paths())
    world.profiles.start(world.profile)
    again = ProfilePrefetch(world.objects, world.fetcher, lambda: world.limit)
    again.start(world.profile)
    await world.ended()
    assert len(world.fetcher.requests) == 3


async def test_a_reader_of_a_member_waits_for_its_bundle(world: World) -> None:
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(2)
    ref = world.halves[0][1]
    PrefetchQueue(world.objects).start(world.halves[0])
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert await world.objects.fetch(ref) == world.plains[ref]

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        world.fetcher.gate.set()
    await world.ended()
    assert object_path(ref.digest) not in world.fetcher.requests
    assert sorted(world.fetcher.requests) == sorted(world.paths())
    assert not world.objects.coming


async def test_nothing_but_readers_asks_for_what_later_bundles_bring(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.prefetch.profiles.AT_ONCE", 1)
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(2)
    ahead = PrefetchQueue(world.objects)
    ahead.start(world.halves[1])
    ref = world.halves[1][0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.objects.fetch, ref)
        await world.fetcher.asked(3)
        world.fetcher.gate.set()
    await world.ended()
    assert (ahead.started, world.objects.expected) == (0, set())
    assert sorted(world.fetcher.requests) == sorted([*world.paths(), object_path(ref.digest)])


async def test_a_reader_waits_for_a_bundle_that_does_not_come_for_so_long_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.client.objects.BUNDLE_PATIENCE", 0.05)
    ref = world.halves[0][0]
    world.objects.coming[ref.digest] = trio.Event()
    world.fetcher.gate.set()
    with trio.fail_after(5):
        assert await world.objects.fetch(ref) == world.plains[ref]


def _truncate(body: bytes) -> bytes:
    return body[: len(body) * 3 // 4]


def _flip(body: bytes) -> bytes:
    return body[:-10] + bytes([body[-10] ^ 1]) + body[-9:]


@pytest.mark.parametrize(
    ("damage", "good"),
    [(_truncate, 2), (_flip, 3), (lambda _: b"nonsense" * 100, 0)],
    ids=["truncated", "flipped", "nonsense"],
)
async def test_of_a_wrong_bundle_only_what_was_verified_is_kept(
    world: World, damage: Callable[[bytes], bytes], good: int
) -> None:
    file = world.file(world.bundles[0].name)
    file.write_bytes(damage(file.read_bytes()))
    await world.run()
    assert len(world.here() & set(world.halves[0])) == good
    assert world.here() >= set(world.halves[1])
    assert world.profile.digest not in world.cache.proven
    for ref, plain in world.plains.items():
        assert await world.objects.fetch(ref) == plain


async def test_a_bundle_with_other_members_than_its_name_says_fills_no_cache(world: World) -> None:
    stranger = store_object(world.directory, b"a stranger" * 50)
    world.plains[stranger] = b"a stranger" * 50
    poisoned = bundle.encode([(ref, encode(world.plains[ref])) for ref in [stranger, *world.halves[0]]])
    file = world.file(world.bundles[0].name)
    file.write_bytes(poisoned[: world.bundles[0].stored])
    await world.run()
    assert stranger.digest not in world.cache.proven
    assert world.profiles.failed == 1


async def test_a_bundle_that_names_an_object_twice_leaves_nobody_waiting(world: World) -> None:
    first, second = world.halves[0][:2]
    twice = world.store_bundle([first, first, second])
    world.profile = store_object(world.directory, profile.encode([twice, world.bundles[1]]))
    await world.run()
    assert (world.objects.coming, world.objects.expected) == ({}, set())
    assert world.here() == {first, second, *world.halves[1]}


async def test_what_is_missing_is_fetched_singly(world: World) -> None:
    world.file(world.bundles[0].name).unlink()
    await world.run()
    assert world.here() == set(world.halves[1])
    ref = world.halves[0][2]
    started = time.monotonic()
    assert await world.objects.fetch(ref) == world.plains[ref]
    assert time.monotonic() - started < 1


async def test_what_failed_is_tried_again_and_not_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle_file = world.file(world.bundles[0].name)
    away = bundle_file.rename(bundle_file.with_suffix(".away"))
    await world.run()
    away.rename(bundle_file)
    await world.run()
    assert world.here() == set(world.halves[1])
    now = time.monotonic()
    monkeypatch.setattr("lazyfs.prefetch.profiles.time.monotonic", lambda: now + 61)
    await world.run()
    assert world.here() == set(world.plains)
    assert world.fetcher.requests.count(object_path(world.bundles[1].name)) == 1
    await world.run()
    assert world.fetcher.requests.count(object_path(world.profile.digest)) == 2


async def test_a_large_bundle_has_the_time_a_slow_line_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.prefetch.profiles.SLOWEST", 1)
    begun = time.monotonic()
    await world.run()
    for path, most in [(object_path(one.name), one.stored) for one in world.bundles]:
        assert begun + 60 + most <= world.fetcher.deadlines[path] <= time.monotonic() + 60 + most


async def test_a_profile_that_is_missing_or_nonsense_does_nothing(world: World) -> None:
    world.file(world.profile.digest).unlink()
    await world.run()
    nonsense = store_object(world.directory, b"no profile")
    world.profiles.start(nonsense)
    await world.ended()
    assert world.here() == set()
    assert world.profiles.failed == 2


async def test_a_profile_that_would_push_out_what_is_in_use_is_left(world: World) -> None:
    world.limit = 8000
    await world.run()
    assert world.fetcher.requests == world.paths()[:1]
    assert world.here() == set()


async def test_a_bundle_that_is_here_already_is_not_fetched(world: World) -> None:
    for ref in world.halves[1]:
        world.cache.proven[ref.digest] = world.plains[ref]
    await world.run()
    assert sorted(world.fetcher.requests) == sorted(world.paths()[:2])


async def test_nothing_is_fetched_for_a_cache_that_keeps_nothing(world: World) -> None:
    world.cache.failing = True
    world.fetcher.gate.set()
    await world.objects.fetch(world.halves[0][0])
    world.profiles.start(world.profile)
    await world.ended()
    assert len(world.fetcher.requests) == 1


async def test_a_profile_of_which_bundles_were_passed_over_is_not_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache refuses one object, so the bundles after it are skipped. The next mount fetches them."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.AT_ONCE", 1)
    other = store_object(world.directory, b"another object")
    world.fetcher.free |= {object_path(world.profile.digest), object_path(other.digest)}
    world.profiles.start(world.profile)
    await world.fetcher.asked(2)
    world.cache.failing = True
    await world.objects.fetch(other)
    assert not world.objects.keeps
    world.cache.failing = False
    world.fetcher.gate.set()
    await world.ended()
    assert world.here() == set(world.halves[0])
    assert world.profile.digest not in world.cache.proven


async def test_a_bug_in_a_fetch_ends_no_mount(world: World) -> None:
    world.fetcher.failure = ConnectionError("bug")
    await world.run()
    assert world.profiles.failed == 1
    world.fetcher.free.add(object_path(world.profile.digest))
    again = ProfilePrefetch(world.objects, world.fetcher, lambda: world.limit)
    again.start(world.profile)
    await world.ended()
    assert again.failed == 2
    assert (world.objects.coming, world.objects.expected) == ({}, set())


async def test_a_profile_whose_bundles_fail_is_given_up(world: World) -> None:
    """Otherwise, a profile with 300 missing bundles would cause 300 requests."""
    names = [ObjectRef(sha256(b"%d" % number), 10) for number in range(300)]
    world.profile = store_object(
        world.directory, profile.encode([profile.Bundle(1000, (name,)) for name in names])
    )
    await world.run()
    assert FAILURES <= world.profiles.failed < FAILURES + AT_ONCE
    assert len(world.fetcher.requests) == 1 + world.profiles.failed
    assert not world.objects.expected
    assert not world.objects.coming


async def test_of_many_profiles_a_few_are_under_way(world: World) -> None:
    """`ls -l` of a folder of images looks up every image, and so starts all their profiles."""
    many = [
        store_object(
            world.directory, profile.encode([profile.Bundle(number, (ref,)) for ref in world.plains])
        )
        for number in range(1, 41)
    ]
    for one in many:
        world.profiles.start(one)
    await world.fetcher.asked(PROFILES)
    await trio.testing.wait_all_tasks_blocked()
    under_way = [task.name for task in _tasks() if task.name.startswith("profile ")]
    assert len(under_way) == PROFILES
    world.fetcher.gate.set()
    await world.ended()
    world.profiles.start(many[-1])
    assert any(task.name.startswith("profile ") for task in _tasks()), "one that was passed over has its turn"
    await world.ended()
