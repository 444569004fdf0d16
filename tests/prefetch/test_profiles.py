"""The objects of a profile are fetched ahead into the cache, and small files are read from hot packs. A
profile that is wrong, stale or hostile costs a bounded number of bytes, and never causes a wrong byte to be
read."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from lazyfs.client.hot_files import COPIES, HotFiles
from lazyfs.client.objects import THREADS, Objects
from lazyfs.client.unused_window import FIRST_GAIN, FREE
from lazyfs.core import profile
from lazyfs.core.digest import Digest, ObjectRef, object_path, ref_of, sha256
from lazyfs.core.profile import LEAST, HotPack, Origin, Profile, Program
from lazyfs.prefetch.profile_schedule import FAILURES, PROFILES
from lazyfs.prefetch.profiles import AT_ONCE, FIRST_ONES, ProfilePrefetch
from lazyfs.prefetch.queue import PrefetchQueue
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.open import open_fetcher
from tests.support.fault_server import FaultServer, of_directory
from tests.support.gate_fetcher import GateFetcher
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object


class World:
    """A store with a profile of two programs. It has three hot packs of four files each, and two other
    objects. Both programs read the first hot pack; each also reads a hot pack and an object of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.contents = {ref_of(one): one for one in (b"%02d" % number * 500 for number in range(12))}
        files = list(self.contents)
        self.packs = [self.pack(files[at : at + 4]) for at in (0, 4, 8)]
        self.others = [store_object(directory, b"object %d" % number * 100) for number in range(2)]
        self.store(*(
            Program(name, (self.packs[0].ref, self.others[at], self.packs[at + 1].ref))
            for at, name in enumerate(("/bin/a", "/bin/b"))
        ))  # fmt: skip
        self.fetcher = GateFetcher(directory)
        self.cache = MemoryCache()
        self.limit = 1 << 30
        self.objects = Objects(self.fetcher, self.cache)
        self.profiles = ProfilePrefetch(self.objects, lambda: self.limit)

    def pack(self, files: list[ObjectRef]) -> HotPack:
        ref = store_object(self.directory, b"".join(self.contents[file] for file in files))
        return HotPack(ref, tuple(files))

    def store(self, *programs: Program, packs: list[HotPack] | None = None) -> None:
        """Stores the profile that `run` fetches."""
        listed = tuple(self.packs if packs is None else packs)
        self.made = Profile(Origin.RECORDED, listed, programs)
        self.profile = store_object(self.directory, profile.encode(self.made))

    def path(self, ref: ObjectRef) -> Path:
        return self.directory / object_path(ref.digest)

    def paths(self, program: str = "") -> list[str]:
        """Returns the paths of the profile and of all that it lists for a program."""
        return [object_path(ref.digest) for ref in (self.profile, *self.made.of(program))]

    def here(self) -> set[ObjectRef]:
        return {ref for ref in self.made.of() if ref.digest in self.cache.proven}

    def copy(self, file: ObjectRef) -> bytes | None:
        return self.objects.copy_at_hand(file, 0, file.size, {})

    async def run(self, program: str = "") -> None:
        """Opens the gate, starts the profile and waits for its end."""
        self.fetcher.gate.set()
        self.profiles.start(self.profile, program)
        await self.ended()

    async def ended(self) -> None:
        with trio.fail_after(10):
            while running():
                await trio.sleep(0.005)

    async def idle(self) -> None:
        """Waits until no answer is under way."""
        with trio.fail_after(10):
            while self.objects._flights:
                await trio.sleep(0.005)
            await trio.testing.wait_all_tasks_blocked()


def running() -> list[str]:
    """Returns the names of the tasks that fetch profiles."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, new = [], [root]
    while new:
        task = new.pop()
        found.append(task)
        new += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return [task.name for task in found if task.name.startswith("profile ")]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Makes a World in which the lists of single programs are fetched at once. On a mount, they wait for a
    moment, in which `lazyfs run` can name the program that it starts."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.TOLD_SECONDS", 0)
    return World(tmp_path)


async def test_connections_are_made_while_the_profile_and_the_first_objects_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[int] = []
    monkeypatch.setattr(world.objects, "expect", expected.append)
    await world.run("/bin/a")
    assert expected == [FIRST_ONES, 3]
    again = ProfilePrefetch(world.objects, lambda: world.limit)
    again.start(world.profile, "/bin/a")
    await world.ended()
    assert expected == [FIRST_ONES, 3, 0]


async def test_all_that_is_listed_comes_in_a_request_each_and_once(world: World) -> None:
    await world.run()
    assert world.here() == set(world.made.of())
    assert sorted(world.fetcher.requests) == sorted(world.paths())
    assert {file: world.copy(file) for file in world.contents} == world.contents
    world.profiles.start(world.profile)
    again = ProfilePrefetch(world.objects, lambda: world.limit)
    again.start(world.profile)
    await world.ended()
    assert len(world.fetcher.requests) == 6
    assert (world.objects.due, world.objects.expected, world.objects.ahead) == ({}, set(), {})


@pytest.mark.parametrize(("program", "count"), [("a", 4), ("/bin/b", 4), ("c", 6), ("", 6)])
async def test_a_start_fetches_what_its_program_reads_or_all_if_it_is_not_known(
    world: World, program: str, count: int
) -> None:
    await world.run(program)
    assert sorted(world.fetcher.requests) == sorted(world.paths(program))
    assert len(world.fetcher.requests) == count


async def test_what_both_programs_read_comes_once(world: World) -> None:
    await world.run("a")
    world.profiles = ProfilePrefetch(world.objects, lambda: world.limit)
    await world.run("b")
    assert sorted(world.fetcher.requests) == sorted(world.paths())


async def test_until_it_is_told_which_program_starts_only_what_all_read_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.prefetch.profiles.TOLD_SECONDS", 60)
    world.fetcher.gate.set()
    world.profiles.start(world.profile)
    with trio.fail_after(10):
        while world.packs[0].ref not in world.here():
            await trio.sleep(0.005)
    await world.idle()
    assert world.here() == {world.packs[0].ref}
    world.profiles.start(world.profile, "b")
    await world.ended()
    assert sorted(world.fetcher.requests) == sorted(world.paths("b"))


async def test_a_program_that_is_told_has_its_list_beside_as_many_other_profiles_as_may_be_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the list of the program was refused, since with the image's own start as many profiles were
    under way as may be; that start ended all the same, and nobody fetched the list any more."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.TOLD_SECONDS", 60)
    entered = world.profile, world.made
    for number in range(PROFILES - 1):
        world.store(Program(f"/bin/{number}", tuple(world.others)))
        world.profiles.start(world.profile)
    world.profile, world.made = entered
    world.profiles.start(world.profile)
    world.fetcher.free |= set(world.paths())
    while world.packs[0].ref not in world.here():
        await trio.sleep(0.005)
    world.profiles.start(world.profile, "b")
    with trio.fail_after(10):
        while not world.here() >= set(world.made.of("b")):
            await trio.sleep(0.005)
    world.fetcher.gate.set()
    await world.ended()


async def test_a_reader_of_a_file_joins_the_flight_of_its_hot_pack(world: World) -> None:
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(4)
    file = world.packs[0].files[1]
    assert world.objects.is_due(file)
    got: list[dict[Digest, bytes]] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            got.append(await world.objects.fetch_copy(file))

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        world.fetcher.gate.set()
    assert world.objects.copy_at_hand(file, 3, 100, got[0]) == world.contents[file][3:103]
    await world.ended()
    assert sorted(world.fetcher.requests) == sorted(world.paths())


async def test_a_reader_of_a_file_in_a_later_hot_pack_asks_for_that_pack(world: World) -> None:
    world.profiles.most = 1
    last = world.packs[2]
    world.fetcher.free |= {object_path(ref.digest) for ref in (world.profile, last.ref)}
    world.profiles.start(world.profile)
    await world.fetcher.asked(2)
    assert await world.objects.fetch_copy(last.files[0]) == {
        last.ref.digest: b"".join(world.contents[file] for file in last.files)
    }
    world.fetcher.gate.set()
    await world.ended()
    assert sorted(world.fetcher.requests) == sorted(world.paths())


async def test_a_reader_waits_for_a_profile_that_is_being_loaded(world: World) -> None:
    """Without this wait, a start would also fetch the packs of the first files that it reads. Yet copies of
    these files are in hot packs, which may be in the cache."""
    await world.run()
    del world.cache.proven[world.profile.digest]
    objects = Objects(world.fetcher, world.cache)
    world.fetcher.gate.clear()
    again = ProfilePrefetch(objects, lambda: world.limit)
    again.start(world.profile)
    await world.fetcher.asked(7)
    file = world.packs[1].files[2]
    got: list[dict[Digest, bytes]] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            got.append(await objects.fetch_copy(file, world.profile.digest))

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert got == []
        world.fetcher.gate.set()
    assert objects.copy_at_hand(file, 0, file.size, got[0]) == world.contents[file]
    assert len(world.fetcher.requests) == 7
    await world.ended()


async def test_a_reader_waits_for_a_hot_pack_for_so_long_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.client.objects.COPY_PATIENCE", 0.05)
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(4)
    with trio.fail_after(5):
        assert await world.objects.fetch_copy(world.packs[0].files[0]) == {}
    world.fetcher.gate.set()
    await world.ended()


async def test_nothing_but_readers_asks_for_what_a_profile_will_bring(world: World) -> None:
    world.profiles.most = 1
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(2)
    ahead = PrefetchQueue(world.objects)
    ahead.start(world.others)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.objects.fetch, world.others[1])
        await world.fetcher.asked(3)
        world.fetcher.gate.set()
    await world.ended()
    assert (ahead.started, world.objects.expected) == (0, set())
    assert sorted(world.fetcher.requests) == sorted(world.paths())


async def test_as_many_as_the_bound_are_under_way_from_the_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    refs = [store_object(tmp_path, b"%d" % number) for number in range(60)]
    world.store(Program("", tuple(refs)))
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(1 + AT_ONCE)
    await trio.testing.wait_all_tasks_blocked()
    assert len(world.fetcher.requests) == 1 + AT_ONCE
    world.fetcher.gate.set()
    await world.ended()
    assert world.here() == set(refs)
    assert AT_ONCE < THREADS, "readers have the rest of the threads"


def _truncate(body: bytes) -> bytes:
    return body[: len(body) * 3 // 4]


def _flip(body: bytes) -> bytes:
    return body[:-10] + bytes([body[-10] ^ 1]) + body[-9:]


@pytest.mark.parametrize("damage", [_truncate, _flip, lambda _: b"nonsense" * 100, None])
async def test_a_hot_pack_that_is_wrong_or_missing_is_done_without(
    world: World, damage: Callable[[bytes], bytes] | None
) -> None:
    world.store(Program("", tuple(world.made.of())))
    file = world.path(world.packs[0].ref)
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    await world.run()
    assert world.here() == set(world.made.of()) - {world.packs[0].ref}
    assert world.profiles.failed == 1
    started = time.monotonic()
    for one in world.packs[0].files:
        assert world.copy(one) is None
        assert await world.objects.fetch_copy(one) == {}
    assert time.monotonic() - started < 1
    assert world.copy(world.packs[1].files[0]) == world.contents[world.packs[1].files[0]]


async def test_a_file_that_is_not_where_its_profile_says_is_read_from_nowhere_in_that_pack(
    world: World,
) -> None:
    """The pack is what its digest says, but the list of its files is a lie."""
    first, second = world.packs[0].files[:2]
    lie = HotPack(world.packs[0].ref, (second, first, *world.packs[0].files[2:]))
    world.store(Program("", (lie.ref,)), packs=[lie])
    await world.run()
    assert world.copy(first) is None
    assert lie.ref.digest in world.objects.hot.wrong
    assert world.copy(lie.files[3]) is None, "a pack with one wrong slice is not used again"


async def test_any_part_of_a_copy_is_that_part_of_the_file(world: World) -> None:
    """The first read of a copy proves it by its SHA-256; later reads take only their part of the hot pack."""
    contents = {ref_of(one): one for one in (os.urandom(700), os.urandom(900), os.urandom(40))}
    world.contents |= contents
    pack = world.pack(list(contents))
    world.store(Program("", (pack.ref,)), packs=[pack])
    await world.run()
    whole = b"".join(contents.values())
    for fetched in ({}, {pack.ref.digest: whole}):
        for file, content in contents.items():
            for start, length in ((0, 5), (3, 11), (file.size - 9, 100), (0, file.size), (17, 20)):
                assert (
                    world.objects.copy_at_hand(file, start, length, fetched)
                    == (content[start : start + length])
                )


async def test_a_wrong_copy_is_passed_over_for_a_right_one(world: World) -> None:
    first, second = world.packs[0].files[:2]
    lie = HotPack(ref_of(world.contents[second] + world.contents[first]), (first, second))
    store_object(world.directory, world.contents[second] + world.contents[first])
    world.store(Program("", (lie.ref, world.packs[0].ref)), packs=[lie, world.packs[0]])
    await world.run()
    assert world.copy(first) == world.contents[first]


async def test_what_failed_is_tried_again_and_not_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = world.path(world.packs[0].ref)
    away = file.rename(file.with_suffix(".away"))
    await world.run()
    away.rename(file)
    await world.run()
    assert world.packs[0].ref not in world.here()
    now = time.monotonic()
    monkeypatch.setattr("lazyfs.prefetch.profiles.time.monotonic", lambda: now + 61)
    await world.run()
    assert world.here() == set(world.made.of())
    assert world.fetcher.requests.count(object_path(world.packs[1].ref.digest)) == 1


async def test_a_profile_that_is_missing_or_nonsense_does_nothing(world: World) -> None:
    world.path(world.profile).unlink()
    await world.run()
    nonsense = store_object(world.directory, b"no profile")
    world.profiles.start(nonsense)
    await world.ended()
    assert world.here() == set()
    assert world.profiles.failed == 2
    assert world.objects.loading == {}


async def test_a_profile_that_would_push_out_what_is_in_use_is_left(world: World) -> None:
    world.limit = 8000
    await world.run()
    assert world.fetcher.requests == world.paths()[:1]
    assert world.here() == set()
    assert world.packs[0].files[0].digest not in world.objects.hot


async def test_a_hot_pack_whose_files_are_here_in_others_is_not_fetched(world: World) -> None:
    """The cache has a hot pack of the earlier tag. The new profile replaces this hot pack by one with three
    of its four files, and no program lists the earlier one."""
    earlier = world.packs[0]
    new = world.pack([*earlier.files[:3]])
    world.cache.proven[earlier.ref.digest] = b"".join(world.contents[file] for file in earlier.files)
    world.store(Program("", (new.ref, world.packs[1].ref)), packs=[new, world.packs[1], earlier])
    await world.run()
    assert sorted(world.fetcher.requests) == sorted(
        object_path(ref.digest) for ref in (world.profile, world.packs[1].ref)
    )
    assert [world.copy(file) for file in new.files] == [world.contents[file] for file in new.files]


async def test_an_earlier_hot_pack_that_is_not_here_is_never_fetched(world: World) -> None:
    world.store(Program("", (world.packs[0].ref,)))
    await world.run()
    assert await world.objects.fetch_copy(world.packs[1].files[0]) == {}
    assert sorted(world.fetcher.requests) == sorted(world.paths())


async def test_nothing_is_fetched_for_a_cache_that_keeps_nothing(world: World) -> None:
    world.cache.failing = True
    world.fetcher.gate.set()
    await world.objects.fetch(world.others[0])
    world.profiles.start(world.profile)
    await world.ended()
    assert len(world.fetcher.requests) == 1


async def test_a_list_that_begins_with_more_than_is_fetched_on_trust_goes_on_with_its_reader(
    world: World,
) -> None:
    large = store_object(world.directory, os.urandom(FREE + 1))
    world.store(Program("", (large, *world.made.of())))
    world.fetcher.gate.set()
    world.profiles.start(world.profile)
    with trio.fail_after(10):
        while large.digest not in world.objects.listed:
            await trio.sleep(0.005)
    await world.idle()
    assert world.fetcher.requests == world.paths()[:1]
    await world.objects.fetch(large)
    await world.ended()
    assert world.here() == set(world.made.of())


async def test_a_bug_in_a_fetch_ends_no_mount(world: World) -> None:
    world.fetcher.failure = ConnectionError("bug")
    await world.run()
    assert world.profiles.failed == 1
    world.fetcher.free.add(object_path(world.profile.digest))
    again = ProfilePrefetch(world.objects, lambda: world.limit)
    again.start(world.profile)
    await world.ended()
    assert again.failed >= FAILURES
    assert (world.objects.due, world.objects.expected, world.objects.loading) == ({}, set(), {})


async def test_a_profile_whose_objects_fail_is_given_up(world: World) -> None:
    """The prefetch of a profile ends after a few failures. Otherwise, a profile of 16,384 missing objects
    would cause as many requests."""
    world.store(Program("", tuple(ObjectRef(sha256(b"%d" % number), 10) for number in range(300))))
    await world.run()
    await world.idle()  # the requests under way when the list was given up fail a moment later
    assert FAILURES <= world.profiles.failed < FAILURES + AT_ONCE
    assert len(world.fetcher.requests) == 1 + world.profiles.failed
    assert (world.objects.due, world.objects.expected, world.objects.ahead) == ({}, set(), {})


async def test_of_many_profiles_a_few_are_under_way(world: World) -> None:
    """`ls -l` of a folder of images looks up every image, and so starts all their profiles."""
    many = []
    for number in range(40):
        world.store(Program(f"/bin/{number}", tuple(world.others)))
        many.append(world.profile)
    for one in many:
        world.profiles.start(one)
    await world.fetcher.asked(PROFILES)
    await trio.testing.wait_all_tasks_blocked()
    assert len(running()) == PROFILES
    world.fetcher.gate.set()
    await world.ended()
    world.profiles.start(many[-1])
    assert running(), "one that was passed over has its turn"
    await world.ended()


CHUNK = 1 << 18


class UnusedWorld(World):
    """A World whose profile lists 40 objects of 256 KiB. A test decides which of them are read."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.refs = [store_object(directory, os.urandom(CHUNK)) for _ in range(40)]
        self.store(Program("", tuple(self.refs)))

    async def read_to_the_end(self) -> None:
        """Reads what has come, again and again, until no profile is under way."""
        with trio.fail_after(10):
            while running():
                for ref in self.refs:
                    self.objects.read_at_hand(ref, 0, 10)
                await trio.sleep(0.005)

    def fetched(self) -> int:
        """Returns the total size of the objects that were requested."""
        asked = set(self.fetcher.requests)
        return sum(ref.size for ref in self.refs if object_path(ref.digest) in asked)


async def test_a_profile_is_given_up_after_two_megabytes_that_nobody_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This bounds the bytes that a hostile profile can waste."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.UNUSED_SECONDS", 0.2)
    world = UnusedWorld(tmp_path)
    await world.run()
    assert FREE - CHUNK < world.fetched() <= FREE
    assert world.profiles.given_up == 1
    assert (world.objects.due, world.objects.expected, world.objects.ahead) == ({}, set(), {})


async def test_a_hot_pack_is_used_only_if_a_right_file_was_read_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile profile that names the files of the image, with wrong places, is stopped after 2 MB, even
    while readers read these files, before and after the hot packs come."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.UNUSED_SECONDS", 0.2)
    world = UnusedWorld(tmp_path)
    file = ref_of(b"x" * 1000)
    lies = [HotPack(ref, (file, ObjectRef(ref.digest, CHUNK - 1000))) for ref in world.refs]
    world.store(Program("", tuple(world.refs)), packs=lies)
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(1 + FREE // CHUNK)
    assert world.copy(file) is None, "none of the hot packs has come"
    world.fetcher.gate.set()
    for _ in range(20):
        await world.idle()
        assert world.copy(file) is None
        await world.objects.fetch_copy(file)
    await world.ended()
    assert world.fetched() <= FREE


async def test_what_is_used_buys_a_hostile_profile_a_multiple_of_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile lists one small object that the start really reads, however often, and much that nobody
    reads."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.UNUSED_SECONDS", 0.2)
    world = UnusedWorld(tmp_path)
    bait = store_object(tmp_path, os.urandom(CHUNK // FIRST_GAIN))
    world.store(Program("", (bait, *world.refs)))
    world.fetcher.gate.set()
    world.profiles.start(world.profile)
    with trio.fail_after(10):
        while running():
            world.objects.read_at_hand(bait, 0, 10)
            world.objects.is_at_hand(world.refs[0])
            await trio.sleep(0.005)
    assert world.fetched() == FREE // CHUNK * CHUNK + CHUNK
    assert world.profiles.given_up == 1


async def test_what_a_profile_lists_is_foreseen_while_the_profile_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile that has stopped because nobody used what came foresees nothing: a reader of the other
    objects on its list is helped by guesses, as without a profile."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.UNUSED_SECONDS", 60)
    world = UnusedWorld(tmp_path)
    last = world.refs[-1]
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(2)
    assert world.objects.is_foreseen(last.digest)
    assert not world.objects.is_foreseen(world.others[0].digest)
    world.fetcher.gate.set()
    await world.idle()
    assert not world.objects.is_foreseen(last.digest)
    while running():  # readers use what has come, until the list is at its end
        for ref in world.here():
            world.objects.at_hand(ref)
        await world.idle()
    assert world.objects.listed == {}


@pytest.mark.parametrize("size", [1, 999])
async def test_wrong_sizes_are_no_fault_of_a_server(tmp_path: Path, size: int) -> None:
    """Regression: 28 requests whose answers were longer than the profile had stated took the origin down, and
    readers of other objects got EIO."""
    refs = [store_object(tmp_path, os.urandom(1000)) for _ in range(40)]
    lies = tuple(ObjectRef(ref.digest, size) for ref in refs[:-1])
    wrong = store_object(tmp_path, profile.encode(Profile(Origin.RECORDED, (), (Program("", lies),))))
    with FaultServer(of_directory(tmp_path)) as server, closing(open_fetcher(server.url)) as fetcher:
        assert isinstance(fetcher, HttpFetcher)
        objects = Objects(fetcher, MemoryCache())
        profiles = ProfilePrefetch(objects, lambda: 1 << 30)
        profiles.start(wrong)
        with trio.fail_after(60):
            while running():
                await trio.sleep(0.005)
        assert profiles.failed >= FAILURES
        assert {member.state for member in fetcher.report().members} == {"up"}
        for ref in refs:
            assert len(await objects.fetch(ref)) == 1000


def test_a_file_that_many_packs_are_said_to_hold_is_remembered_a_few_times() -> None:
    """Regression: 65,536 copies of a file took the event loop minutes to remember."""
    file = ref_of(b"x")
    packs = tuple(HotPack(ObjectRef(sha256(b"%d" % at), 1), (file,)) for at in range(2000))
    hot = HotFiles()
    hot.add(sha256(b"profile"), Profile(Origin.RECORDED, packs, ()))
    assert list(hot.packs(file)) == [pack.ref for pack in packs[:COPIES]]
    assert list(hot.packs(ObjectRef(file.digest, 2))) == []


async def test_what_a_reader_waits_for_when_the_list_comes_counts_as_used(tmp_path: Path) -> None:
    """Regression: a reader that asked for the first object while the list was being read was not counted, and
    the line lay idle until that object was here."""
    world = UnusedWorld(tmp_path)
    world.fetcher.free.add(object_path(world.profile.digest))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.objects.fetch, world.refs[0])
        await world.fetcher.asked(1)
        world.profiles.start(world.profile)
        await world.fetcher.asked(1 + AT_ONCE)
        assert world.fetched() > FREE
        world.fetcher.gate.set()
    await world.objects.fetch(world.refs[-1])


async def test_the_programs_of_a_profile_have_one_trust_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: what all programs read, the whole list, and the list of the program that `lazyfs run` named
    brought 2 MB each."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.TOLD_SECONDS", 0.3)
    monkeypatch.setattr("lazyfs.prefetch.profiles.UNUSED_SECONDS", 3)
    world = UnusedWorld(tmp_path)
    world.store(*(Program(name, tuple(world.refs)) for name in ("/bin/a", "/bin/b")))
    world.fetcher.gate.set()
    world.profiles.start(world.profile)
    await world.fetcher.asked(1 + FREE // CHUNK)
    world.profiles.start(world.profile, "a")
    await trio.sleep(0.6)
    world.profiles.start(world.profile, "b")
    await world.ended()
    assert FREE - CHUNK < world.fetched() <= FREE
    assert world.profiles._windows == {}
    assert (world.objects.listed, world.objects.ahead) == ({}, {})


async def test_what_two_profiles_list_counts_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the profile that was begun first did not learn that its objects were used, and was given
    up."""
    monkeypatch.setattr("lazyfs.prefetch.profiles.UNUSED_SECONDS", 1)
    world = UnusedWorld(tmp_path)
    shared = world.refs[: FREE // CHUNK]
    first = world.profile
    world.store(Program("", tuple(shared)))
    world.fetcher.free |= {object_path(first.digest), object_path(world.profile.digest)}
    world.profiles.start(first)
    await world.fetcher.asked(1 + len(shared))
    world.profiles.start(world.profile)
    await world.fetcher.asked(2 + len(shared))
    with trio.fail_after(10):
        while len(world.objects.ahead[shared[0].digest]) < 2:
            await trio.sleep(0.001)
    world.fetcher.gate.set()
    await world.idle()
    for ref in shared:
        assert world.objects.read_at_hand(ref, 0, 9)
    await world.fetcher.asked(3 + len(shared))
    assert world.profiles.given_up == 0
    await world.read_to_the_end()
    assert (world.objects.listed, world.objects.ahead) == ({}, {})


async def test_a_hot_pack_that_is_not_fetched_for_want_of_trust_is_not_due(tmp_path: Path) -> None:
    """What a profile does not bring is left to the guesses."""
    world = UnusedWorld(tmp_path)
    pack = world.packs[0]
    world.store(Program("", (*world.refs, pack.ref)), packs=[pack])
    world.fetcher.free.add(object_path(world.profile.digest))
    world.profiles.start(world.profile)
    await world.fetcher.asked(2)
    assert world.objects.is_due(pack.files[0])
    world.fetcher.gate.set()
    await world.idle()
    assert not world.objects.is_due(pack.files[0])


async def test_what_is_fetched_ahead_once_more_counts_as_no_use(tmp_path: Path) -> None:
    """Regression: read-ahead that met an object of the profile bought the profile a multiple of it."""
    world = UnusedWorld(tmp_path)
    world.fetcher.gate.set()
    world.profiles.start(world.profile)
    await world.fetcher.asked(1 + FREE // CHUNK)
    await world.idle()
    (window,) = world.objects.listed[world.refs[0].digest]
    PrefetchQueue(world.objects).start(world.refs[:3])
    assert await world.objects.fetch(world.refs[-1], ahead=True)
    assert window.used_bytes == 0
    assert await world.objects.fetch(world.refs[-2])
    assert window.used_bytes == CHUNK


async def test_many_tiny_objects_count_for_the_disk_that_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazyfs.prefetch.profiles.UNUSED_SECONDS", 0.2)
    world = World(tmp_path)
    refs = [store_object(tmp_path, b"%d" % number) for number in range(500)]
    world.store(Program("", tuple(refs)))
    world.limit = 2 * len(refs) * LEAST - 1
    await world.run()
    assert world.here() == set(), "too large for the cache"
    world.limit += 1
    world.store(Program("x", tuple(refs)))
    await world.run()
    assert len(world.here()) == FREE // LEAST < len(refs)


async def test_a_profile_that_waits_goes_on_when_something_of_it_is_used(tmp_path: Path) -> None:
    world = UnusedWorld(tmp_path)
    world.fetcher.gate.set()
    world.profiles.start(world.profile)
    await world.fetcher.asked(1 + FREE // CHUNK)
    await world.idle()
    before = world.fetched()
    assert before <= FREE
    assert world.objects.read_at_hand(world.refs[0], 0, 10)
    await world.fetcher.asked(2 + FREE // CHUNK + 2)
    await world.read_to_the_end()
    assert world.here() == set(world.refs)


async def test_the_end_of_a_list_takes_no_use_from_another_list_with_the_same_object(tmp_path: Path) -> None:
    """Regression: the end of one profile made it forget which objects another profile had fetched ahead too.
    The other one went on only when a reader had to wait for one of its objects."""
    world = UnusedWorld(tmp_path)
    shared, own = store_object(tmp_path, os.urandom(FREE - 100)), world.refs[0]
    world.fetcher.free |= {object_path(own.digest)}
    for listed in ([shared], [shared, own]):
        world.store(Program("", tuple(listed)))
        world.fetcher.free.add(object_path(world.profile.digest))
        before = world.objects.ahead.get(shared.digest)
        world.profiles.start(world.profile)
        with trio.fail_after(10):
            while world.objects.ahead.get(shared.digest) is before:
                await trio.sleep(0.005)
    world.fetcher.gate.set()
    with trio.fail_after(10):
        while len(running()) > 1:
            await trio.sleep(0.005)
        await world.idle()
        assert own not in world.here(), "there is no room for it"
        assert world.objects.read_at_hand(shared, 0, 10)
        await world.ended()
    assert own in world.here()


async def test_a_profile_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    world = UnusedWorld(tmp_path)
    world.fetcher.gate.set()
    for number in range(PROFILES):
        world.store(Program(f"{number}", tuple(world.refs)))
        world.profiles.start(world.profile)
    world.store(Program("last", tuple(world.others)))
    with trio.fail_after(10):
        while not world.here() >= set(world.others):
            world.profiles.start(world.profile)
            await trio.sleep(0.005)
    assert len(running()) >= PROFILES
