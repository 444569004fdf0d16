"""Histories drawn by Hypothesis: images are published, removed, given profiles, rolled back, and collected,
and revisions are named. Time passes, and processes are killed between any two operations of the store."""

from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Revision
from lazyfs.images.profiles import publish_profile
from lazyfs.repository import history
from lazyfs.repository.diff import resolve
from lazyfs.repository.edit import Edit
from lazyfs.repository.removal import remove_images, remove_untagged
from lazyfs.repository.rollback import roll_back
from lazyfs.repository.stored_history import read_history
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import StoreConflict, reader
from tests.support.counts import count
from tests.support.memory_repository import DAY, Killed, Life, MemoryRepository
from tests.support.oci_images import Built, entry, layer

KEEP_DAYS = 1
PLACES = ["r.example/a:1", "r.example/a:2", "s.example/b:1"]
NAMES = ["jan", "feb"]
BASE = [layer(entry("etc/base", data=b"base")), layer(entry("usr/lib", data=b"x" * 5000))]
START_FILE = ".singularity.d/actions/exec"

lives = st.one_of(st.none(), st.none(), st.integers(0, 40), st.integers(0, 400))
"""The number of operations after which a process is killed; None if it is not killed."""


class Known(NamedTuple):
    """A revision, and the images that the revision must show."""

    revision: Revision
    images: dict[str, int]
    """Place -> the image's number."""


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Writes four images. The first and third share a layer, and so do the second and fourth."""
    found = []
    for number in range(4):
        own = layer(entry("own", data=b"%d" % number))
        image = Built([BASE[number % 2], own], how="none", config={"Cmd": ["/own"]})
        found.append(tmp_path_factory.mktemp(f"image{number}"))
        image.write_layout(found[-1])
    return found


class Histories(RuleBasedStateMachine):
    """One repository, and the expected images of each of its revisions."""

    layouts: list[Path]
    killed, deleted = [0], [0]
    """Totals over all histories: killed processes and deleted objects, in a list of one number each."""

    @initialize()
    def begin(self) -> None:
        self.repository = MemoryRepository(KEEP_DAYS)
        self.known = [Known(self.repository.newest(), {})]
        self.replaced: dict[int, float] = {}
        self.names: dict[str, int] = {}
        self.collected = False

    def note(self, images: dict[str, int]) -> None:
        """If the committed revision is a new one, records that it must show `images`."""
        newest = self.repository.newest()
        if newest.number == self.known[-1].revision.number:
            return
        assert newest.number == self.known[-1].revision.number + 1
        self.replaced[newest.number - 1] = newest.time
        self.known.append(Known(newest, images))

    @property
    def images(self) -> dict[str, int]:
        return dict(self.known[-1].images)

    def kept(self) -> list[Known]:
        """Returns the revisions that must be complete now: named revisions, and those that are young enough
        to be kept."""
        return [
            known
            for known in self.known
            if known.revision.number in self.names.values()
            or self.replaced.get(known.revision.number, float("inf")) + KEEP_DAYS * DAY > self.repository.time
        ]

    @rule(image=st.integers(0, 3), place=st.sampled_from(PLACES), life=lives)
    def publish(self, image: int, place: str, life: int | None) -> None:
        try:
            self.repository.publish(self.layouts[image], place, self.repository.store(Life(life)))
        except Killed:
            self.killed[0] += 1
        self.note(self.images | {place: image})

    @rule(places=st.sets(st.sampled_from(PLACES), min_size=1), life=lives, untagged=st.booleans())
    def remove(self, places: set[str], life: int | None, untagged: bool) -> None:
        def change(edit: Edit) -> None:
            edit.apply(lambda tree: remove_images(tree, sorted(places)))
            if untagged:
                edit.apply(remove_untagged)

        try:
            self.repository.edit(self.repository.store(Life(life)), change)
        except Killed:
            self.killed[0] += 1
        self.note({place: image for place, image in self.images.items() if place not in places})

    @precondition(lambda self: self.images)
    @rule(data=st.data(), life=lives)
    def give_profile(self, data: st.DataObject, life: int | None) -> None:
        place = data.draw(st.sampled_from(sorted(self.images)))

        store = self.repository.store(Life(life))
        tree = StoredTree(reader(self.repository.store()), self.known[-1].revision.root)
        member = tree.find(f"{resolve(tree, place).path}/{START_FILE}")
        assert member is not None
        try:
            with self.repository.leased(store) as lease:
                publish_profile(
                    store,
                    self.repository.keys,
                    place,
                    {"": [Digest(member.entry.content)]},
                    self.repository.now,
                    lease,
                )
        except Killed:
            self.killed[0] += 1
        self.note(self.images)

    @rule(data=st.data(), life=lives)
    def roll_back(self, data: st.DataObject, life: int | None) -> None:
        old = data.draw(st.sampled_from(self.known))
        kept = {known.revision.number for known in self.kept()}
        try:
            roll_back(
                self.repository.store(Life(life)),
                self.repository.keys,
                str(old.revision.number),
                self.repository.now,
            )
        except Killed:
            self.killed[0] += 1
        except UsageError as error:
            if "not whole" not in str(error) or old.revision.number in kept:
                raise
        self.note(dict(old.images))

    @rule(data=st.data(), name=st.sampled_from(NAMES), life=lives)
    def keep(self, data: st.DataObject, name: str, life: int | None) -> None:
        known = data.draw(st.sampled_from(self.kept()))
        number = known.revision.number
        try:
            history.keep(
                self.repository.store(Life(life)),
                self.repository.keys,
                name,
                str(number),
                self.repository.now,
            )
        except Killed:
            self.killed[0] += 1
        self.read_names()

    @precondition(lambda self: self.names)
    @rule(data=st.data(), life=lives)
    def release(self, data: st.DataObject, life: int | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.names)))
        try:
            history.release(
                self.repository.store(Life(life)), self.repository.keys, name, self.repository.now
            )
        except Killed:
            self.killed[0] += 1
        self.read_names()

    def read_names(self) -> None:
        """Updates the names from the committed history, since a process may have committed a name before it
        was killed."""
        kept = read_history(self.repository.store(), self.repository.newest()).names
        self.names = {one.name: one.number for one in kept}

    @rule(hours=st.sampled_from([0.1, 3, 20, 30]))
    def pass_time(self, hours: float) -> None:
        self.repository.pass_time(hours * 3600)

    @rule(life=lives, wait=st.sampled_from([0, 7200]))
    def collect(self, life: int | None, wait: float) -> None:
        try:
            report = self.repository.collect(self.repository.store(Life(life)), wait)
        except Killed:
            self.killed[0] += 1
        except StoreConflict as error:
            if "another collection is under way" not in str(error):
                raise
        else:
            assert report.problems == []
            self.deleted[0] += report.deleted
        self.collected = True

    @invariant()
    def every_kept_revision_is_whole(self) -> None:
        if not getattr(self, "collected", False):
            return
        self.collected = False
        for known in self.kept():
            assert self.repository.problems(known.revision.root) == []
            tree = StoredTree(reader(self.repository.store()), known.revision.root)
            for place in known.images:
                start_file = tree.find(f"{resolve(tree, place).path}/{START_FILE}")
                assert start_file is not None
                assert start_file.entry.flags & 1  # the flag ADDED

    def teardown(self) -> None:
        if not hasattr(self, "repository"):
            return
        self.repository.pass_time(2 * 3600)
        self.deleted[0] += self.repository.collect().deleted
        self.collected = True
        self.every_kept_revision_is_whole()
        store = self.repository.store()
        last = read_all(self.repository)
        kept = {known.revision.number for known in self.kept()}
        heads = [ref for number, ref in last if number in kept]
        roots = [known.revision.root for known in self.kept()]
        assert self.repository.objects() == self.repository.reachable(roots, heads)
        assert [past.number for past in history.revisions(store)] == list(
            range(self.known[-1].revision.number, 0, -1)
        )
        assert set(store.metadata_names()) >= {"collection.json", "timestamp.json", "1.root.json"}
        assert not [name for name in store.metadata_names() if name.endswith(".list")]


def read_all(repository: MemoryRepository) -> list[tuple[int, ObjectRef]]:
    """Returns (number, head of the history as last signed with this revision) for each revision."""
    newest = repository.newest()
    assert newest.history is not None
    found = [(newest.number, newest.history)]
    older = history.revisions(repository.store())
    found.extend((past.number - 1, past.before) for past in older if past.before is not None)
    return found


@pytest.mark.timeout(count(120, 3600))
def test_histories(layouts: list[Path]) -> None:
    Histories.layouts = layouts
    Histories.TestCase.settings = settings(
        max_examples=count(40, 500),
        stateful_step_count=count(30, 50),
        suppress_health_check=list(HealthCheck),
    )
    Histories.TestCase("runTest").runTest()
    assert min(*Histories.killed, *Histories.deleted) > 10
