"""A mirror of a repository: after being killed and resumed anywhere it equals its source, it transfers only
what has changed, it shows only complete revisions, and it forgets what its source forgets."""

import os
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lazyfs.core import codec
from lazyfs.core.digest import Digest
from lazyfs.core.errors import BadData, NotFound, TrustError, UsageError
from lazyfs.core.reach import catalog_at, walk
from lazyfs.images.publisher import publish
from lazyfs.repository import mirror_removal
from lazyfs.repository.commit import read_committed, read_revision
from lazyfs.repository.edit import Edit
from lazyfs.repository.kept_revisions import kept_revisions
from lazyfs.repository.mirror import Mirror
from lazyfs.repository.mirror_removal import LEFT, MirrorReport
from lazyfs.repository.preload import Preload
from lazyfs.repository.removal import remove_images, remove_untagged
from lazyfs.store import StoreError
from lazyfs.store.check import check
from tests.support.cli import lazyfs, mounted, new_repository, serving
from tests.support.counts import count
from tests.support.memory_repository import DAY, OPTIONS, Killed, Life, MemoryRepository
from tests.support.memory_store import Bucket, MemoryStore, unwatched
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

BASE = layer(entry("base", data=b"base" * 3000), entry("big", data=random.Random(1).randbytes(9 << 20)))
SMALL = layer(entry("base", data=b"base" * 3000))
SHARED = layer(entry("base", data=b"base" * 3000), entry("large", data=random.Random(2).randbytes(5 << 19)))


def built(number: int, base: bytes) -> Built:
    return Built([base, layer(entry("own", data=b"%d" % number * 100))])


def layout(directory: Path, number: int, base: bytes = SMALL) -> Path:
    return built(number, base).write_layout(directory / str(number))


def publish_many(repository: MemoryRepository, directory: Path, numbers: range) -> None:
    """Publishes images, ten at a time under one lease."""
    for first in range(numbers.start, numbers.stop, 10):
        store = repository.store()
        with repository.leased(store) as lease:
            for number in range(first, min(first + 10, numbers.stop)):
                options = replace(OPTIONS, place=f"r.example/app{number}:1")
                source = f"oci:{layout(directory, number)}"
                publish(store, repository.keys, [source], options, repository.now, lease)


def remove_big(edit: Edit) -> None:
    """Removes the image with the large file."""
    edit.apply(lambda tree: remove_images(tree, ["r.example/big:1"]))
    edit.apply(remove_untagged)


class Copy:
    """A mirror in a bucket of its own, on the same clock as the repository."""

    def __init__(self, repository: MemoryRepository) -> None:
        self.repository = repository
        self.bucket = Bucket(lambda: repository.time)

    def store(self, before: Callable[[str], None] = unwatched) -> MemoryStore:
        return MemoryStore(self.bucket, before)

    def mirror(
        self,
        before: Callable[[str], None] = unwatched,
        asked: Callable[[str], None] = unwatched,
        **options: object,
    ) -> MirrorReport:
        """Does one run of the mirror. `before` is called at each operation on the copy, `asked` at each one
        on the source."""
        source = self.repository.store(asked)
        return Mirror(source, self.store(before), **options).run()  # type: ignore[arg-type]

    def assert_equal(self) -> None:
        """Asserts that the copy shows the repository's newest revision, complete and with its history."""
        newest = read_committed(self.repository.store())
        mine = read_committed(self.store())
        assert mine.proven.timestamp_bytes == newest.proven.timestamp_bytes
        assert mine.state.root_bytes == newest.state.root_bytes
        revision = mine.revision
        assert check(self.store(), revision.root, history=revision.history).problems == []


@pytest.fixture
def repository(tmp_path: Path) -> MemoryRepository:
    repository = MemoryRepository(keep_days=2)
    repository.publish(layout(tmp_path, 0, BASE), "r.example/big:1")
    for number in range(1, 4):
        repository.publish(layout(tmp_path, number), f"r.example/app{number}:1")
    return repository


def test_a_copy_that_was_killed_anywhere_is_whole_and_goes_on_to_equal_its_source(
    repository: MemoryRepository, tmp_path: Path
) -> None:
    whole = Copy(repository)
    steps = [0]

    def step(_operation: str) -> None:
        steps[0] += 1

    whole.mirror(step)
    draw = random.Random("mirror")
    copied = whole.bucket.objects.keys()
    for _ in range(20):
        copy = Copy(repository)
        killed = 0
        while True:
            try:
                report = copy.mirror(Life(draw.randrange(1, steps[0])))
                break
            except Killed:
                killed += 1
            if copy.bucket.metadata.get("timestamp.json"):
                copy.assert_equal()
        copy.assert_equal()
        assert set(copied) == set(copy.bucket.objects)
        assert report.problems == []
    repository.publish(layout(tmp_path, 9), "r.example/app9:1")
    whole.mirror()
    whole.assert_equal()


def test_a_run_goes_on_where_the_one_before_was_killed(repository: MemoryRepository) -> None:
    copy = Copy(repository)
    total = Copy(repository).mirror().objects
    copied = 0
    for _ in range(100):
        before = len(copy.bucket.objects)
        try:
            copied += copy.mirror(Life(60), workers=1).objects
            break
        except Killed:
            assert len(copy.bucket.objects) > before
            copied += len(copy.bucket.objects) - before
    copy.assert_equal()
    assert copied <= total + 2


@pytest.mark.timeout(count(120, 900))
def test_a_change_costs_requests_in_proportion_to_it(tmp_path: Path) -> None:
    images = count(60, 1000)
    repository = MemoryRepository()
    publish_many(repository, tmp_path, range(images))
    copy = Copy(repository)
    first = copy.mirror()
    asked: Counter[str] = Counter()
    mutex = threading.Lock()

    def note(operation: str) -> None:
        with mutex:
            asked[operation] += 1

    assert copy.mirror(asked=note).changed is False
    assert asked["get"] == 0
    asked.clear()
    repository.publish(layout(tmp_path, images), "r.example/new:1")
    report = copy.mirror(note, note)
    copy.assert_equal()
    assert report.objects < 40
    assert asked["get"] < 90
    assert asked["has"] < 90
    assert asked["objects"] == 0
    assert first.objects > 5 * images


def test_the_copy_forgets_what_its_source_forgets_once_its_time_is_over(repository: MemoryRepository) -> None:
    copy = Copy(repository)
    copy.mirror()
    big = len(copy.bucket.objects)

    repository.edit(repository.store(), remove_big)
    report = copy.mirror()
    assert (report.changed, report.deleted) == (True, 0)
    assert len(copy.bucket.objects) > big
    repository.pass_time(2 * DAY + 100)
    report = copy.mirror()
    assert report.deleted > 9  # the chunks of the big file among others
    copy.assert_equal()
    newest = read_revision(repository.store())
    assert newest.history is not None
    repository.collect()
    assert set(copy.bucket.objects) == repository.objects()
    assert copy.mirror().deleted == 0


def test_what_cannot_be_had_is_never_shown_and_keeps_nothing_from_leaving(
    repository: MemoryRepository, tmp_path: Path
) -> None:
    copy = Copy(repository)
    copy.mirror()
    shown = copy.bucket.metadata["timestamp.json"]
    there = set(repository.bucket.objects)

    repository.edit(repository.store(), remove_big)
    copy.mirror()
    shown = copy.bucket.metadata["timestamp.json"]
    repository.pass_time(3 * DAY)
    repository.publish(layout(tmp_path, 20), "r.example/app20:1")
    broken = min(leaves(repository) - there)
    frame, modified = repository.bucket.objects[broken]
    before = len(copy.bucket.objects)
    for wrong, error in ((None, NotFound), (frame[:-1], BadData), (b"", BadData)):
        if wrong is None:
            del repository.bucket.objects[broken]
        else:
            repository.bucket.objects[broken] = wrong, modified
        with pytest.raises(error):
            copy.mirror()
        assert copy.bucket.metadata["timestamp.json"] == shown
        assert broken not in copy.bucket.objects
    assert len(copy.bucket.objects) < before
    repository.bucket.objects[broken] = frame, modified
    copy.mirror()
    copy.assert_equal()


def leaves(repository: MemoryRepository) -> set[Digest]:
    """Returns the objects of the newest revision that lead to no others: packs and file contents."""
    store = repository.store()
    root = read_revision(store).root
    found = walk([catalog_at(root)], lambda ref: codec.open_object(store.get(ref.digest), ref))
    return {one.ref.digest for one in found if not one.leads_on}


def test_a_deletion_that_fails_is_said_and_made_by_the_next_run(repository: MemoryRepository) -> None:
    copy = Copy(repository)
    copy.mirror()

    repository.edit(repository.store(), remove_big)
    repository.pass_time(3 * DAY)

    def refuse(operation: str) -> None:
        if operation == "delete":
            raise StoreError("the disk is read-only")

    report = copy.mirror(refuse)
    assert report.deleted == 0
    assert report.problems == ["not everything was deleted: the disk is read-only"]
    copy.assert_equal()
    assert copy.mirror().deleted > 9


class Stop:
    """Lets a run make a number of changes of the kinds by which it deletes, and raises an error at the next
    one."""

    def __init__(self, changes: int, error: BaseException) -> None:
        self.left = changes
        self.error = error

    def __call__(self, operation: str) -> None:
        if operation in ("write_metadata", "delete", "delete one", "delete_metadata"):
            self.left -= 1
            if self.left < 0:
                raise self.error


@pytest.mark.parametrize("error", [Killed(), StoreError("the disk is failing")], ids=["killed", "failing"])
@pytest.mark.parametrize("again", [True, False], ids=["published again", "gone for ever"])
def test_a_deletion_that_ends_anywhere_leaves_nothing_behind_and_no_image_without_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool, error: BaseException
) -> None:
    """Two images that share their large layer leave, and the copy's deletion ends early. Then the second one
    in the order of the tree is published again, with the same catalogs."""
    monkeypatch.setattr(mirror_removal, "_DELETED", 3)
    repository = MemoryRepository(keep_days=2)
    for number, base in ((1, SHARED), (2, SHARED), (3, SMALL)):
        repository.publish(layout(tmp_path, number, base), f"r.example/app{number}:1")
    copy = Copy(repository)
    copy.mirror()
    places = ["r.example/app1:1", "r.example/app2:1"]
    repository.edit(repository.store(), lambda edit: edit.apply(lambda tree: remove_images(tree, places)))
    repository.edit(repository.store(), lambda edit: edit.apply(remove_untagged))
    copy.mirror()
    repository.pass_time(3 * DAY)
    before, time = dict(copy.bucket.objects), repository.time
    gone = dict(repository.bucket.metadata)
    if again:
        second = max((1, 2), key=lambda number: built(number, SHARED).flat)
        repository.publish(layout(tmp_path, second, SHARED), f"r.example/app{second}:1")
    later = dict(repository.bucket.metadata)
    shown = dict(copy.bucket.metadata)
    changes, ended = 0, False
    while not ended:
        copy.bucket.objects, copy.bucket.metadata = dict(before), dict(shown)
        repository.time, repository.bucket.metadata = time, dict(gone)
        stop = Stop(changes, error)
        try:
            ended = copy.mirror(stop).problems == [] and stop.left >= 0
        except Killed:
            pass
        repository.bucket.metadata = dict(later)
        copy.mirror()
        copy.assert_equal()
        repository.pass_time(LEFT + 1)
        assert copy.mirror().problems == []
        assert set(copy.bucket.objects) == kept_objects(copy)
        assert "deletion.json" not in copy.bucket.metadata
        changes += 1
    assert changes > 20


def test_what_a_killed_run_has_copied_stays_for_a_day_and_then_goes(
    repository: MemoryRepository, tmp_path: Path
) -> None:
    copy = Copy(repository)
    copy.mirror()
    repository.edit(repository.store(), remove_big)
    copy.mirror()
    repository.pass_time(3 * DAY)
    before = set(copy.bucket.objects)
    repository.publish(layout(tmp_path, 30, SHARED), "r.example/app30:1")
    with pytest.raises(Killed):
        copy.mirror(Life(65), workers=1)
    left = set(copy.bucket.objects) - before
    repository.edit(repository.store(), lambda edit: edit.remove("r.example/app30:1"))
    repository.edit(repository.store(), lambda edit: edit.apply(remove_untagged))
    assert copy.mirror().deleted > 9  # the chunks of the big file among others
    assert left <= set(copy.bucket.objects)
    assert left - kept_objects(copy)
    repository.pass_time(LEFT + 1)
    copy.mirror()
    assert set(copy.bucket.objects) == kept_objects(copy)
    assert "deletion.json" not in copy.bucket.metadata


def kept_objects(copy: Copy) -> set[Digest]:
    """Returns the digests of the objects that those kept revisions lead to which the copy has."""
    repository = copy.repository
    kept = kept_revisions(repository.store(), repository.newest(), repository.time)
    roots = [one.past.root for one in kept if one.past.root.digest in copy.bucket.objects]
    heads = [one.history for one in kept if one.history and one.history.digest in copy.bucket.objects]
    return repository.reachable(roots, heads)


def test_an_older_state_and_another_repository_are_refused(
    repository: MemoryRepository, tmp_path: Path
) -> None:
    copy = Copy(repository)
    copy.mirror()
    old = dict(repository.bucket.metadata)
    repository.publish(layout(tmp_path, 7), "r.example/app7:1")
    copy.mirror()
    shown = copy.bucket.metadata["timestamp.json"]
    repository.bucket.metadata = old
    with pytest.raises(TrustError, match="shows an old state"):
        copy.mirror()
    other = Repository(tmp_path)
    with pytest.raises(TrustError, match="its first root differs"):
        Mirror(other.store, copy.store()).run()
    assert copy.bucket.metadata["timestamp.json"] == shown


def test_the_limit_holds_on_average(repository: MemoryRepository) -> None:
    waited = [0.0]

    def pause(seconds: float) -> None:
        waited[0] = max(waited[0], seconds)

    report = Copy(repository).mirror(
        bytes_per_second=1 << 20, monotonic=lambda: waited[0], pause=pause, workers=1
    )
    assert report.bytes > 9 << 20
    assert waited[0] > 0


def test_a_mirror_of_a_served_store_is_mounted_as_its_source_is(tmp_path: Path) -> None:
    store, keys = new_repository(tmp_path)
    lazyfs("publish", f"oci:{layout(tmp_path, 1, BASE)}", store, "--as", "r.example/app:1", "--keys", keys)
    copy = tmp_path / "copy"
    with serving(store) as url:
        done = lazyfs("mirror", url, copy, "--limit", "1G")
        assert "objects," in done.stdout
        assert "up to date" in lazyfs("mirror", url, copy).stdout
    lazyfs("check", copy)
    root = copy / "metadata/1.root.json"
    with (
        serving(copy) as url,
        mounted(url, tmp_path / "mnt", "--trust", root, "--cache", tmp_path / "c") as mnt,
    ):
        assert (mnt / "r.example/app:1/own").read_bytes() == b"1" * 100
    refused = lazyfs("mirror", store, copy, "--limit", "0", check=False)
    assert refused.returncode == UsageError.exit_code


def test_a_preload_that_was_killed_anywhere_goes_on(repository: MemoryRepository) -> None:
    steps = [0]

    def step(_operation: str) -> None:
        steps[0] += 1

    names = ["r.example/app1:1", "r.example/app2:1"]
    whole = Copy(repository)
    Preload(repository.store(), whole.store(step)).take(names)
    draw = random.Random("preload")
    for _ in range(20):
        copy = Copy(repository)
        while True:
            try:
                Preload(repository.store(), copy.store(Life(draw.randrange(1, steps[0])))).take(names)
                break
            except Killed:
                continue
        assert copy.bucket.objects.keys() == whole.bucket.objects.keys()
        assert copy.bucket.metadata.keys() == whole.bucket.metadata.keys()
    assert len(whole.bucket.objects) < len(repository.bucket.objects) - 9
    asked: Counter[str] = Counter()
    again = Preload(repository.store(lambda operation: asked.update([operation])), whole.store())
    assert again.take(names).objects == 0
    assert asked["get"] == 0


def test_a_preloaded_directory_serves_mounts_without_a_network(tmp_path: Path) -> None:
    store, keys = new_repository(tmp_path)
    for number in (1, 2):
        source = f"oci:{layout(tmp_path, number)}"
        lazyfs("publish", source, store, "--as", f"r.example/app{number}:1", "--keys", keys)
    some, every = tmp_path / "some", tmp_path / "every"
    lazyfs("preload", "--from", store, "--to", some, "r.example/app1:1")
    lazyfs("preload", "--from", store, "--to", every)
    shutil.rmtree(store)
    lazyfs("check", every)
    for number, copy in enumerate((every, some)):
        root = copy / "metadata/1.root.json"
        with mounted(
            copy, tmp_path / f"mnt{number}", "--trust", root, "--cache", tmp_path / f"c{number}"
        ) as mnt:
            assert (mnt / "r.example/app1:1/own").read_bytes() == b"1" * 100
            assert sorted(os.listdir(mnt / "r.example")) == ["app1:1", "app2:1"]
    refusals: list[tuple[list[str | Path], str]] = [
        (["--to", some], "holds some images only"),
        (["--to", every, "r.example/app1:1"], "holds the whole repository"),
        (["--to", tmp_path / "new", "r.example/nobody:1"], "nobody:1"),
        (["--to", "s3://bucket/x"], "give a directory"),
    ]
    for words, said in refusals:
        done = lazyfs("preload", "--from", every, *words, check=False)
        assert (done.returncode, said in done.stderr) == (2, True)
    done = lazyfs("mirror", every, some, check=False)
    assert (done.returncode, "holds some images only" in done.stderr) == (2, True)
