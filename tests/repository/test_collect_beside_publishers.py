"""Two publishers and a collection side by side. Their operations are mixed at random, on a clock that
sometimes jumps past a lease. No commit is lost, and every image of every newest revision is whole."""

import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lazyfs.core.digest import parse_hex
from lazyfs.images.publisher import publish
from lazyfs.repository.collect import Collector
from lazyfs.repository.edit import Edit
from lazyfs.repository.history import revisions
from lazyfs.repository.leases import PublisherLease
from lazyfs.repository.live_tree import LiveTree
from lazyfs.repository.removal import links, remove_images, remove_untagged
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import StoreConflict, reader
from tests.support.counts import count
from tests.support.memory_repository import OPTIONS, MemoryRepository
from tests.support.memory_store import MemoryStore
from tests.support.oci_images import Built, entry, layer
from tests.support.turns import Turns

PLACES = ["r.example/a:1", "r.example/b:1"]
BASE = [layer(entry("base", data=b"%d" % number * 3000)) for number in range(2)]


class Images:
    """Four images. The first and third share a layer, and so do the second and fourth."""

    def __init__(self, directory: Path) -> None:
        made = [Built([BASE[number % 2], layer(entry("own", data=b"%d" % number))]) for number in range(4)]
        self.layouts = [image.write_layout(directory / str(number)) for number, image in enumerate(made)]
        self.configs = [parse_hex(image.flat[-64:]) for image in made]


class World:
    """The repository, and the actors on it."""

    def __init__(self, images: Images, seed: str, sweeps: int) -> None:
        self.repository = MemoryRepository(keep_days=0)
        self.images = images
        self.sweeps = sweeps
        self.swept = 0
        self.lost_leases = 0
        self.draw = random.Random(seed)
        self.turns = Turns(["one", "two", "collector"], random.Random(seed + "turns"))
        self.commits: dict[int, tuple[str, bytes]] = {}
        """Revision -> the place that it changed, and the config that the place leads to since then; empty if
        the place was removed."""
        self.failures: list[BaseException] = []

    def pass_time(self, actor: str, seconds: float) -> None:
        self.repository.pass_time(max(seconds, 30))
        self.turns.step(actor)

    def store(self, actor: str) -> MemoryStore:
        def before(operation: str) -> None:
            if operation == "delete one":  # one request deletes many objects
                return
            self.turns.step(actor)
            self.repository.pass_time(self.draw.uniform(0, 2))
            if self.draw.random() < 1 / 1500:
                self.repository.pass_time(4000)

        return self.repository.store(before)

    def lease(self, actor: str, store: MemoryStore) -> PublisherLease:
        return PublisherLease(
            store,
            self.repository.now,
            monotonic=lambda: self.repository.time,
            pause=lambda seconds: self.pass_time(actor, seconds),
        )

    def publish(self, actor: str) -> None:
        """Publishes and removes images at a place of the actor's own, until enough collections have deleted
        something."""
        own = PLACES[actor == "two"]
        while self.swept < self.sweeps:
            image = self.draw.choice([*range(4), None])
            store = self.store(actor)
            try:
                lease = self.lease(actor, store)
            except StoreConflict:
                continue
            try:
                number = self.change(store, lease, own, image)
            except StoreConflict:  # it slept past its lease or was overtaken too often, and starts over
                self.lost_leases += 1
            else:
                if number is not None:
                    config = b"" if image is None else self.images.configs[image]
                    assert self.commits.setdefault(number, (own, config)) == (own, config)
            finally:
                lease.end_if_possible()

    def change(self, store: MemoryStore, lease: PublisherLease, place: str, image: int | None) -> int | None:
        """Returns the revision that has the change, None if there was nothing to change."""
        keys, now = self.repository.keys, self.repository.now
        if image is not None:
            options = replace(OPTIONS, place=place)
            done = publish(store, keys, [f"oci:{self.images.layouts[image]}"], options, now, lease)
            return done.revision.number if done.changed else None
        with Edit(store, keys, now, lease=lease) as edit:
            edit.apply(lambda tree: remove_images(tree, [place]))
            edit.apply(remove_untagged)
            result = edit.commit()
        return result.revision.number if result.changed else None

    def collect(self, actor: str) -> None:
        while self.swept < self.sweeps:
            collector = Collector(
                self.store(actor),
                self.repository.keys,
                self.repository.now,
                wait=3000,
                monotonic=lambda: self.repository.time,
                pause=lambda seconds: self.pass_time(actor, seconds),
            )
            try:
                report = collector.run()
            except StoreConflict:  # it slept past its lease
                self.lost_leases += 1
                continue
            assert report.problems == []
            self.swept += report.deleted > 0
            self.check()

    def check(self) -> None:
        """Asserts that the newest revision is whole. No other actor runs meanwhile."""
        assert self.repository.problems(self.repository.newest().root) == []

    def run(self) -> None:
        def act(actor: str, work: Callable[[str], None]) -> None:
            try:
                work(actor)
            except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
                self.failures.append(error)
                self.swept = self.sweeps
            finally:
                self.turns.leave(actor)

        works = {"one": self.publish, "two": self.publish, "collector": self.collect}
        threads = [threading.Thread(target=act, args=pair, daemon=True) for pair in works.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for failure in self.failures:
            raise failure


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(count(1, 5)))
def test_no_commit_is_lost_and_every_image_is_whole(tmp_path: Path, number: int) -> None:
    seed = f"{os.environ.get('LAZYFS_SEED', 'sweeps')}{number}"
    world = World(Images(tmp_path), seed, count(5, 25))
    world.run()
    repository = world.repository
    repository.pass_time(2 * 3600)
    repository.collect()
    world.check()
    newest = repository.newest()
    assert newest.history is not None
    assert repository.objects() == repository.reachable([newest.root], [newest.history])

    expected: dict[str, bytes] = {}
    for past in sorted(revisions(repository.store()), key=lambda past: past.number):
        changed = {change.path.decode(): change.new for change in past.changes}
        if past.number in world.commits:
            place, config = world.commits[past.number]
            # A removal of untagged images alone changes no place.
            assert changed == ({place: config} if expected.get(place, b"") != config else {})
        expected.update(changed)
    assert set(world.commits) == set(range(2, newest.number + 1))
    tree = LiveTree(StoredTree(reader(repository.store()), newest.root), newest.params)
    shown = {place: parse_hex(flat[-64:]) for place, flat in links(tree)}
    assert shown == {place: config for place, config in expected.items() if config}
    assert world.swept >= world.sweeps
