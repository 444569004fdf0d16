"""Two publishers and a garbage collector that work on one repository at the same time, and assertions about
the result."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lazyfs.core.digest import parse_hex
from lazyfs.images.publisher import publish
from lazyfs.repository.collect import Collector
from lazyfs.repository.edit import Edit
from lazyfs.repository.history import revisions
from lazyfs.repository.leases import PublisherLease
from lazyfs.repository.live_tree import LiveTree
from lazyfs.repository.removal import links, remove_images, remove_untagged
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, StoreConflict, reader
from tests.support.memory_repository import OPTIONS, MemoryRepository
from tests.support.oci_images import Built, entry, layer

PLACES = ["r.example/a:1", "r.example/b:1"]
BASE = [layer(entry("base", data=b"%d" % number * 3000)) for number in range(2)]


class Images:
    """Four images. The first and third share a layer, and so do the second and fourth."""

    def __init__(self, directory: Path) -> None:
        made = [Built([BASE[number % 2], layer(entry("own", data=b"%d" % number))]) for number in range(4)]
        self.layouts = [image.write_layout(directory / str(number)) for number, image in enumerate(made)]
        self.configs = [parse_hex(image.flat[-64:]) for image in made]


class Sweeps:
    """Two publishers and a collector on one repository. They run until `sweeps` collections have deleted
    something."""

    def __init__(
        self,
        repository: MemoryRepository,
        images: Images,
        seed: str,
        sweeps: int,
        step: Callable[[str], None],
        leave: Callable[[str], None],
    ) -> None:
        """An actor (publisher or collector) calls `step` with its name wherever other actors may run before
        it continues, and `leave` when it has ended."""
        self.repository = repository
        self.images = images
        self.sweeps = sweeps
        self.swept = 0
        self.draw = random.Random(seed)
        self.step = step
        self.leave = leave
        self.commits: dict[int, tuple[str, bytes]] = {}
        """Revision -> (place that it changed, digest of the config there since then). The digest is empty if
        the place was removed."""
        self.failures: list[BaseException] = []

    def pass_time(self, actor: str, seconds: float) -> None:
        self.repository.pass_time(max(seconds, 30))
        self.step(actor)

    def store(self, actor: str) -> Store:
        def before(operation: str) -> None:
            if operation == "delete one":  # one request deletes many objects
                return
            self.step(actor)
            self.repository.pass_time(self.draw.uniform(0, 2))
            if self.draw.random() < 1 / 1500:
                self.repository.pass_time(4000)

        return self.repository.store(before)

    def lease(self, actor: str, store: Store) -> PublisherLease:
        return PublisherLease(
            store,
            self.repository.now,
            monotonic=lambda: self.repository.time,
            pause=lambda seconds: self.pass_time(actor, seconds),
        )

    def publish(self, actor: str) -> None:
        """Publishes and removes images at the actor's own place, until enough collections have deleted
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
                continue
            else:
                if number is not None:
                    config = b"" if image is None else self.images.configs[image]
                    assert self.commits.setdefault(number, (own, config)) == (own, config)
            finally:
                lease.end_if_possible()

    def change(self, store: Store, lease: PublisherLease, place: str, image: int | None) -> int | None:
        """Publishes an image at a place, or removes the place if `image` is None. Returns the number of the
        new revision; None if nothing has changed."""
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
                continue
            assert report.problems == [], report.problems
            self.swept += report.deleted > 0
            self.check()

    def check(self) -> None:
        """Asserts that the newest revision is complete."""
        assert self.repository.problems(self.repository.newest().root) == []

    def run(self) -> None:
        def act(actor: str, work: Callable[[str], None]) -> None:
            try:
                work(actor)
            except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
                self.failures.append(error)
                self.swept = self.sweeps
            finally:
                self.leave(actor)

        works = {"one": self.publish, "two": self.publish, "collector": self.collect}
        threads = [threading.Thread(target=act, args=pair, daemon=True) for pair in works.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for failure in self.failures:
            raise failure

    def assert_nothing_lost(self, unanswered: int = 0) -> None:
        """Collects once more. Asserts that every commit is in the history, that every image that should exist
        does and is complete, and that no object remains that no revision leads to.

        `unanswered`: the greatest number of commits that were made although their publisher never got the
        answer.
        """
        repository = self.repository
        repository.pass_time(2 * 3600)
        repository.collect()
        self.check()
        newest = repository.newest()
        assert newest.history is not None
        assert repository.objects() == repository.reachable([newest.root], [newest.history])

        expected: dict[str, bytes] = {}
        for past in sorted(revisions(repository.store()), key=lambda past: past.number):
            changed = {change.path.decode(): change.new for change in past.changes}
            if past.number in self.commits:
                place, config = self.commits[past.number]
                # A removal of untagged images alone changes no place.
                assert changed == ({place: config} if expected.get(place, b"") != config else {})
            expected.update(changed)
        numbers = set(range(2, newest.number + 1))
        assert set(self.commits) <= numbers
        assert len(numbers) - len(self.commits) <= unanswered
        tree = LiveTree(StoredTree(reader(repository.store()), newest.root), newest.params)
        shown = {place: parse_hex(flat[-64:]) for place, flat in links(tree)}
        assert shown == {place: config for place, config in expected.items() if config}
        assert self.swept >= self.sweeps
