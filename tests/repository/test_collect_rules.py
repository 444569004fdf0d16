"""The rules that keep a garbage collection from interfering with publishers, other collections, and
readers."""

import contextlib
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from lazyfs.core import codec
from lazyfs.core.digest import Digest, sha256
from lazyfs.core.errors import FormatError, NotFound, UsageError
from lazyfs.images.snapshots import directory_of_files, snapshot
from lazyfs.repository import collector_lease, leases
from lazyfs.repository.collect import Collector
from lazyfs.repository.collection_state import FILE, CollectionState, ObjectList, change_state, read_state
from lazyfs.repository.collector_lease import CollectorLost
from lazyfs.repository.commit import read_committed, write_revision
from lazyfs.repository.edit import Edit
from lazyfs.repository.history import keep, release
from lazyfs.repository.leases import LeaseLost, PublisherLease
from lazyfs.repository.object_lists import read_list
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, StoreConflict, StoreError, reader
from tests.support.counts import count
from tests.support.memory_repository import DAY, Killed, Life, MemoryRepository

HOUR = 3600.0


@pytest.fixture
def repository() -> MemoryRepository:
    return MemoryRepository(keep_days=0)


def put_tree(edit: Edit, path: str, content: bytes) -> None:
    edit.put(
        path, snapshot(directory_of_files({b"f": content}, 0, edit.ingest), edit.base.params, edit.ingest)
    )


def put(repository: MemoryRepository, path: str, content: bytes) -> None:
    repository.edit(repository.store(), lambda edit: put_tree(edit, path, content))
    repository.pass_time(10)


def remove(repository: MemoryRepository, path: str) -> None:
    repository.edit(repository.store(), lambda edit: edit.remove(path))
    repository.pass_time(10)


def content(repository: MemoryRepository, path: str) -> bytes | None:
    tree = StoredTree(reader(repository.store()), repository.newest().root)
    return tree.file(f"{path}/f") if tree.find(path) else None


def make_garbage(repository: MemoryRepository) -> Digest:
    """Publishes a tree and removes it again; returns the digest of its only file, which is garbage then."""
    put(repository, "old", b"old")
    remove(repository, "old")
    return sha256(b"old")


def at_operation(operation: str, then: Callable[[], object], after: int = 0) -> Callable[[str], None]:
    """Returns a watcher that calls `then` once: before operation number `after` + 1 of this name."""
    left = [after + 1]

    def before(name: str) -> None:
        if name == operation and left[0]:
            left[0] -= 1
            if not left[0]:
                then()

    return before


def listed(repository: MemoryRepository) -> ObjectList:
    found = read_state(repository.store()).listed
    assert found is not None
    return found


def kill_after_decision(repository: MemoryRepository) -> None:
    """Runs a collection that is killed after it has decided what to delete, before its first delete."""

    def die() -> None:
        raise Killed

    class Mortal:
        dead = False

        def __call__(self, name: str) -> None:
            if self.dead or name == "delete":
                self.dead = True
                die()

    with pytest.raises(Killed):
        repository.collect(repository.store(Mortal()))
    assert listed(repository).deleting


def test_what_no_kept_revision_leads_to_is_deleted_and_everything_else_stays(
    repository: MemoryRepository,
) -> None:
    put(repository, "stays", b"stays")
    gone = make_garbage(repository)
    report = repository.collect()
    assert report.deleted == report.garbage > 0
    assert gone not in repository.objects()
    newest = repository.newest()
    assert newest.history is not None
    assert repository.objects() == repository.reachable([newest.root], [newest.history])
    assert content(repository, "stays") == b"stays"
    assert repository.collect().deleted == 0


def test_a_dry_run_says_what_would_go_and_changes_nothing(repository: MemoryRepository) -> None:
    make_garbage(repository)
    objects, metadata = repository.objects(), dict(repository.bucket.metadata)
    report = repository.collector().dry_run()
    assert (repository.objects(), repository.bucket.metadata) == (objects, metadata)
    assert repository.collect().deleted == report.garbage > 0


def test_the_days_of_a_revision_count_from_its_replacement() -> None:
    repository = MemoryRepository(keep_days=30)
    put(repository, "old", b"old")
    repository.pass_time(60 * DAY)
    remove(repository, "old")
    for _ in range(2):
        assert repository.collect().kept == [3, 2]
        assert sha256(b"old") in repository.objects()
        repository.pass_time(14 * DAY)
    repository.pass_time(3 * DAY)
    assert repository.collect().deleted > 0
    assert sha256(b"old") not in repository.objects()


def test_a_named_revision_is_kept_until_its_name_is_released(repository: MemoryRepository) -> None:
    put(repository, "old", b"old")
    number = repository.newest().number
    keep(repository.store(), repository.keys, "jan", None, repository.now)
    assert repository.newest().number == number
    remove(repository, "old")
    repository.pass_time(400 * DAY)
    assert repository.collect().kept == [number + 1, number]
    assert sha256(b"old") in repository.objects()
    release(repository.store(), repository.keys, "jan", repository.now)
    repository.pass_time(10)
    assert repository.collect().kept == [number + 1]
    assert sha256(b"old") not in repository.objects()


def test_a_revision_that_was_collected_gets_no_name_any_more(repository: MemoryRepository) -> None:
    put(repository, "old", b"old")
    number = repository.newest().number
    remove(repository, "old")
    repository.collect()
    with pytest.raises(UsageError, match=f"revision {number} is not whole"):
        keep(repository.store(), repository.keys, "jan", str(number), repository.now)


def test_a_publisher_under_way_keeps_what_it_has_found_in_the_store(repository: MemoryRepository) -> None:
    """The publisher reuses an object in the store that no revision leads to. The collection lists this object
    for deletion before the publisher commits."""
    gone = make_garbage(repository)
    store = repository.store()
    with repository.leased(store) as lease, Edit(store, repository.keys, repository.now, lease=lease) as edit:
        put_tree(edit, "again", b"old")
        edit.ingest.finish()
        assert repository.collect(wait=0).waiting_for == 1
        assert gone in (read_list(store, listed(repository)) or ())
        edit.commit()
    assert repository.collect().deleted > 0
    assert content(repository, "again") == b"old"
    assert repository.problems(repository.newest().root) == []


def test_a_collection_waits_for_publishers_and_goes_on_when_they_have_ended(
    repository: MemoryRepository,
) -> None:
    make_garbage(repository)
    lease = repository.lease(repository.store())
    collector = repository.collector(wait=HOUR / 2)
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        repository.pass_time(60)
        if len(waits) == 3:
            lease.end()

    collector._pause = pause
    assert collector.run().deleted > 0
    assert len(waits) == 3


def test_a_list_that_waited_is_gone_on_with_by_the_next_collection(repository: MemoryRepository) -> None:
    gone = make_garbage(repository)
    lease = repository.lease(repository.store())
    repository.collect(wait=0)
    first = listed(repository)
    repository.lease(repository.store())  # a lease that began later is not waited for
    lease.end()
    report = repository.collect(wait=0)
    assert report.deleted == first.objects
    assert gone not in repository.objects()


def test_what_publishers_under_way_have_put_is_not_condemned(repository: MemoryRepository) -> None:
    store = repository.store()
    with repository.leased(store) as lease, Edit(store, repository.keys, repository.now, lease=lease) as edit:
        repository.pass_time(60)
        put_tree(edit, "new", b"new")
        edit.ingest.finish()
        store.sync()
        repository.pass_time(60)
        repository.collect(wait=0)
        condemned = read_state(store).listed
        assert condemned is None or sha256(b"new") not in (read_list(store, condemned) or ())
        edit.commit()
    repository.collect()
    assert content(repository, "new") == b"new"


def test_a_publisher_that_needs_a_condemned_object_takes_the_list_back(repository: MemoryRepository) -> None:
    gone = make_garbage(repository)
    other = repository.lease(repository.store())
    repository.collect(wait=0)
    before = listed(repository)
    put(repository, "again", b"old")
    assert read_state(repository.store()).listed is None
    assert repository.store().read_metadata(before.name) is None
    other.end()
    repository.collect()
    assert gone in repository.objects()
    assert content(repository, "again") == b"old"


def test_a_list_that_is_taken_back_while_it_is_decided_deletes_nothing_of_it(
    repository: MemoryRepository,
) -> None:
    gone = make_garbage(repository)
    other = repository.lease(repository.store())
    repository.collect(wait=0)
    other.end()
    # The third write is the decision: the collector's own lease and the list of deletions come first.
    store = repository.store(at_operation("write_metadata", lambda: put(repository, "again", b"old"), 2))
    repository.collect(store)
    assert gone in repository.objects()
    assert repository.problems(repository.newest().root) == []


def test_a_publisher_that_needs_an_object_on_the_list_of_deletions_waits_and_stores_it_again(
    repository: MemoryRepository,
) -> None:
    gone = make_garbage(repository)
    kill_after_decision(repository)
    store = repository.store()
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        repository.pass_time(60)

    with repository.leased(store) as lease:
        lease._pause = pause
        with Edit(store, repository.keys, repository.now, lease=lease) as edit:
            put_tree(edit, "again", b"old")
            edit.commit()
    assert waits
    assert gone in repository.objects()
    assert read_state(repository.store()).listed is None
    repository.collect()
    assert repository.problems(repository.newest().root) == []
    assert content(repository, "again") == b"old"


def test_a_killed_collection_is_finished_by_the_next_one(repository: MemoryRepository) -> None:
    gone = make_garbage(repository)
    kill_after_decision(repository)
    with pytest.raises(StoreConflict, match="another collection is under way"):
        repository.collect()
    repository.pass_time(collector_lease.LENGTH + 1)
    assert repository.collect().deleted > 0
    assert gone not in repository.objects()
    assert read_state(repository.store()).listed is None


def test_a_publisher_that_slept_past_its_lease_starts_over(repository: MemoryRepository) -> None:
    before = repository.newest()
    store = repository.store()
    lease = repository.lease(store)
    with Edit(store, repository.keys, repository.now, lease=lease) as edit:
        put_tree(edit, "late", b"late")
        repository.pass_time(leases.LENGTH + 1)
        with pytest.raises(LeaseLost, match="publish again"):
            edit.commit()
    assert repository.newest() == before


def test_a_publisher_that_slept_after_its_last_object_starts_over(repository: MemoryRepository) -> None:
    before = repository.newest()
    watcher = at_operation("sync", lambda: repository.pass_time(leases.LENGTH + 1))
    with pytest.raises(LeaseLost):
        repository.edit(repository.store(watcher), lambda edit: put_tree(edit, "late", b"late"))
    assert repository.newest() == before


def test_what_a_publisher_under_way_started_from_is_kept(repository: MemoryRepository) -> None:
    """The first publisher's commit uses a condemned object again. The second publisher starts from that
    revision, which is replaced before the collection decides."""
    gone = make_garbage(repository)
    store = repository.store()
    with repository.leased(store) as lease, Edit(store, repository.keys, repository.now, lease=lease) as edit:
        put_tree(edit, "again", b"old")
        edit.ingest.finish()
        repository.collect(wait=0)
        assert gone in (read_list(store, listed(repository)) or ())
        edit.commit()
    with repository.leased(store) as lease, Edit(store, repository.keys, repository.now, lease=lease) as edit:
        remove(repository, "again")
        repository.collect(wait=0)
        assert edit.tree.file("again/f") == b"old"
    repository.pass_time(10)
    repository.collect()
    assert gone not in repository.objects()


def test_a_publisher_that_goes_on_renews_its_lease(repository: MemoryRepository) -> None:
    store = repository.store()
    with repository.leased(store) as lease, Edit(store, repository.keys, repository.now, lease=lease) as edit:
        for number in range(6):
            repository.pass_time(leases.LENGTH / 2)
            put_tree(edit, f"slow/{number}", b"%d" % number)
            edit.ingest.finish()
        assert edit.commit().changed
    assert repository.problems(repository.newest().root) == []


def collected_meanwhile(repository: MemoryRepository) -> None:
    """Lets the publisher's lease expire, then collects."""
    repository.pass_time(leases.LENGTH + 1)
    assert repository.collect().deleted > 0


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_a_publisher_that_slept_within_its_commit_commits_nothing(
    repository: MemoryRepository, moment: int
) -> None:
    """The publisher sleeps until its lease has expired. It wakes up just before it writes targets, snapshot
    or timestamp, or before it gives its lease back."""
    gone = make_garbage(repository)
    before = repository.newest().number
    watcher = at_operation("write_metadata", lambda: collected_meanwhile(repository), moment)
    store = repository.store(watcher)

    def publish() -> None:
        repository.edit(store, lambda edit: put_tree(edit, "again", b"old"))

    if moment == 4:  # asleep when it gives its lease back
        publish()
        assert repository.newest().number == before + 1
    else:
        with pytest.raises(StoreConflict):
            publish()
        assert repository.newest().number == before
        assert gone not in repository.objects()
    assert repository.problems(repository.newest().root) == []


@pytest.mark.parametrize("killed_before", range(0, 150, count(11, 1)))
def test_a_sleeper_stays_kept_out_when_the_collection_is_killed(killed_before: int) -> None:
    """The next collection finishes the deletion, however far the killed one had got."""
    repository = MemoryRepository(keep_days=0)
    gone = make_garbage(repository)
    before = repository.newest().number
    expires = read_committed(repository.store()).proven.timestamp.expires

    def sleep() -> None:
        repository.pass_time(leases.LENGTH + 1)
        with contextlib.suppress(Killed):
            repository.collect(repository.store(Life(killed_before)))
        repository.pass_time(collector_lease.LENGTH + 1)
        repository.collect()
        assert gone not in repository.objects()

    store = repository.store(at_operation("write_metadata", sleep, 3))
    with pytest.raises(StoreConflict):
        repository.edit(store, lambda edit: put_tree(edit, "again", b"old"))
    committed = read_committed(repository.store())
    assert committed.revision.number == before
    assert committed.proven.timestamp.expires == expires  # the collection has renewed no timestamp
    assert repository.problems(committed.revision.root) == []


def test_a_name_that_is_given_too_late_is_refused(repository: MemoryRepository) -> None:
    """The revision was complete when it was checked, but was collected before its name was committed."""
    put(repository, "old", b"old")
    number = repository.newest().number
    remove(repository, "old")
    watcher = at_operation("write_metadata", lambda: collected_meanwhile(repository), 3)
    with pytest.raises(StoreConflict):
        keep(repository.store(watcher), repository.keys, "jan", str(number), repository.now)
    assert repository.collect().kept == [number + 1]
    assert repository.problems(repository.newest().root) == []


def test_a_failure_while_marking_ends_the_collection_before_its_first_delete(
    repository: MemoryRepository,
) -> None:
    put(repository, "stays", b"stays")
    make_garbage(repository)
    before = repository.objects()
    reads = [0]

    def count(name: str) -> None:
        reads[0] += name == "get"

    repository.collector(repository.store(count)).dry_run()
    for number in range(reads[0]):

        def fail() -> None:
            raise StoreError("the bucket answers 503")

        with pytest.raises(StoreError, match="503"):
            repository.collect(repository.store(at_operation("get", fail, number)))
        assert repository.objects() == before
    assert repository.collect().deleted > 0


def test_a_damaged_catalog_ends_the_collection_before_its_first_delete(repository: MemoryRepository) -> None:
    put(repository, "stays", b"stays")
    make_garbage(repository)
    root = repository.newest().root.digest
    _, modified = repository.bucket.objects[root]
    repository.bucket.objects[root] = codec.encode(b"another"), modified
    before = repository.objects()
    with pytest.raises(FormatError, match=f"^/: catalog {root.hex()}: .*nothing is collected"):
        repository.collect()
    assert repository.objects() == before


def lose(repository: MemoryRepository, path: str) -> tuple[Digest, tuple[bytes, float]]:
    """Deletes the catalog of a tree from the newest revision. Returns the catalog's digest, and its entry in
    the bucket so that a test can restore it."""
    node = StoredTree(reader(repository.store()), repository.newest().root).find(path)
    assert node is not None
    assert node.entry.nested is not None
    digest = node.entry.nested.digest
    return digest, repository.bucket.objects.pop(digest)


def contents_and_metadata(repository: MemoryRepository) -> tuple[set[Digest], set[str]]:
    return repository.objects(), set(repository.bucket.metadata)


def test_a_missing_object_ends_the_collection_before_its_first_delete() -> None:
    """While a catalog is missing, the objects below it are unknown. Regression: they were all deleted, so
    that the catalog was useless when it came back."""
    repository = MemoryRepository(keep_days=1)
    for number in range(20):  # makes signed files of old revisions, which stay too
        put(repository, "other", b"%d" % number)
    put(repository, "lost", b"lost")
    digest, stored = lose(repository, "lost")
    repository.pass_time(2 * DAY)
    put(repository, "other", b"more")
    repository.pass_time(1)
    before = contents_and_metadata(repository)
    for report in (repository.collect(), repository.collector().dry_run()):
        assert (report.stopped, report.missing, report.deleted, report.garbage) == (True, 1, 0, 0)
        assert report.problems == [f"lost: catalog {digest.hex()} is not there"]
        assert contents_and_metadata(repository) == before
    assert read_state(repository.store()) == CollectionState()
    repository.bucket.objects[digest] = stored
    report = repository.collect()
    assert (report.stopped, report.missing) == (False, 0)
    assert report.deleted > 0
    assert report.old_metadata > 0
    assert content(repository, "lost") == b"lost"


def test_who_says_so_collects_although_objects_are_missing(repository: MemoryRepository) -> None:
    put(repository, "lost", b"lost")
    lose(repository, "lost")
    gone = make_garbage(repository)
    report = repository.collector(despite_missing=True).dry_run()
    assert (report.stopped, report.missing) == (False, 1)
    assert report.garbage > 0
    assert repository.collector(despite_missing=True).run().deleted == report.garbage
    assert not {gone, sha256(b"lost")} & repository.objects()


def test_an_object_that_goes_missing_meanwhile_ends_the_collection_before_its_decision(
    repository: MemoryRepository,
) -> None:
    make_garbage(repository)
    found: list[tuple[Digest, tuple[bytes, float]]] = []

    def publish_and_lose() -> None:
        put(repository, "lost", b"lost")
        found.append(lose(repository, "lost"))

    # Runs at the first object of the listing. Marking has seen only the revision before.
    store = repository.store(at_operation("objects", publish_and_lose))
    before = repository.objects()
    report = repository.collect(store)
    assert (report.stopped, report.missing, report.deleted) == (True, 1, 0)
    assert before <= repository.objects()
    assert not listed(repository).deleting
    repository.bucket.objects.update(found)
    assert repository.collect().deleted > 0
    assert content(repository, "lost") == b"lost"


def test_a_deletion_that_was_decided_is_not_continued_while_something_is_missing(
    repository: MemoryRepository,
) -> None:
    put(repository, "lost", b"lost")
    make_garbage(repository)
    kill_after_decision(repository)
    digest, stored = lose(repository, "lost")
    repository.pass_time(collector_lease.LENGTH + 1)
    before = contents_and_metadata(repository)
    report = repository.collect()
    assert (report.stopped, report.missing, report.deleted) == (True, 1, 0)
    assert contents_and_metadata(repository) == before
    assert listed(repository).deleting
    repository.bucket.objects[digest] = stored
    assert repository.collect().deleted > 0
    assert content(repository, "lost") == b"lost"


def test_without_the_history_nothing_is_collected_whatever_one_says(repository: MemoryRepository) -> None:
    make_garbage(repository)
    history = repository.newest().history
    assert history is not None
    del repository.bucket.objects[history.digest]
    before = contents_and_metadata(repository)
    with pytest.raises(NotFound, match=f"{history.digest.hex()}.*part of the history"):
        repository.collector(despite_missing=True).run()
    assert contents_and_metadata(repository) == before


@pytest.mark.parametrize("apart", [-1000, 1000])
def test_clocks_that_are_minutes_apart_are_refused(repository: MemoryRepository, apart: float) -> None:
    make_garbage(repository)
    before = dict(repository.bucket.metadata)

    def wrong() -> object:
        return repository.now() + timedelta(seconds=apart)

    for use in (
        lambda: repository.lease(repository.store(), wrong),  # type: ignore[arg-type]
        lambda: Collector(repository.store(), repository.keys, wrong, wait=0).run(),  # type: ignore[arg-type]
        lambda: Collector(repository.store(), repository.keys, wrong, wait=0).dry_run(),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match=r"clock is 1000 s .* the store's"):
            use()
    assert repository.bucket.metadata == before


def test_a_collection_that_slept_past_its_lease_deletes_nothing_more(repository: MemoryRepository) -> None:
    """While the collection slept, another collection has finished its list, and a publisher has stored one of
    the listed objects again."""
    gone = make_garbage(repository)

    def sleep() -> None:
        repository.pass_time(collector_lease.LENGTH + 1)
        repository.collect()
        put(repository, "again", b"old")

    reads = [0]
    repository_store: list[Store] = []

    def before(name: str) -> None:
        # The first read of the state after the decision, just before the first deletion.
        if name == "read_metadata" and repository_store and not reads[0]:
            state = msgspec.json.decode(repository.bucket.metadata[FILE])
            if state.get("listed") and state["listed"]["deleting"]:
                reads[0] = 1
                sleep()

    store = repository.store(before)
    repository_store.append(store)
    with pytest.raises(CollectorLost):
        repository.collect(store)
    assert reads[0]
    assert gone in repository.objects()
    assert repository.problems(repository.newest().root) == []


def test_a_list_that_names_a_reachable_object_does_not_delete_it(repository: MemoryRepository) -> None:
    put(repository, "stays", b"stays")
    make_garbage(repository)
    kill_after_decision(repository)
    forged = sha256(b"stays")
    name = listed(repository).name
    repository.bucket.metadata[name] += forged
    digest = sha256(repository.bucket.metadata[name]).hex()

    change_state(
        repository.store(),
        lambda state: msgspec.structs.replace(
            state, listed=msgspec.structs.replace(listed(repository), digest=digest)
        ),
    )
    repository.pass_time(collector_lease.LENGTH + 1)
    assert repository.collect().deleted > 0
    assert content(repository, "stays") == b"stays"


def test_a_damaged_state_is_named_and_nothing_is_deleted(repository: MemoryRepository) -> None:
    make_garbage(repository)
    before = repository.objects()
    repository.bucket.metadata[FILE] = b'{"leases": 1}'
    for use in (repository.collect, lambda: repository.lease(repository.store())):
        with pytest.raises(Exception, match=f"metadata/{FILE} of the store is damaged"):
            use()
    assert repository.objects() == before


def test_a_history_that_does_not_go_back_far_enough_forbids_collecting() -> None:
    repository = MemoryRepository(keep_days=3)
    put(repository, "old", b"old")
    newest = repository.newest()
    store = repository.store()
    committed = read_committed(store)
    write_revision(
        store,
        repository.keys,
        committed.state.root,
        msgspec.structs.replace(newest, history=None),
        committed.proven,
        repository.now(),
        3650,
    )
    remove(repository, "old")
    with pytest.raises(UsageError, match=r"begins with revision 2, .* 3\.0 more days"):
        repository.collect()
    repository.pass_time(4 * DAY)
    assert repository.collect().deleted > 0


def test_signed_files_of_old_revisions_go_and_their_numbers_are_not_used_again(
    repository: MemoryRepository,
) -> None:
    for number in range(30):
        put(repository, "x", b"%d" % number)
    report = repository.collect()
    assert report.old_metadata == 2 * 15
    names = {name for name in repository.bucket.metadata if "targets" in name}
    assert names == {f"{version}.targets.json" for version in range(16, 32)}
    put(repository, "x", b"more")
    assert "32.targets.json" in repository.bucket.metadata
    assert content(repository, "x") == b"more"


def test_signed_files_of_what_was_published_meanwhile_stay(repository: MemoryRepository) -> None:
    """While a collection waits for a publisher in vain, others commit so many revisions that no rule would
    keep all their signed files."""
    repository = MemoryRepository(keep_days=1)
    make_garbage(repository)
    repository.pass_time(2 * DAY)
    put(repository, "x", b"x")
    for wait, end in ((0.0, False), (7200.0, True)):
        lease = repository.lease(repository.store())
        before = set(repository.bucket.metadata)

        def publish_many(lease: PublisherLease = lease, end: bool = end) -> None:
            for number in range(40):
                put(repository, "x", b"%d" % number)
            if end:
                lease.end()

        repository.collect(repository.store(at_operation("objects", publish_many)), wait)
        newer = {name for name in repository.bucket.metadata if "targets" in name} - before
        assert len(newer) == 40
        lease.end_if_possible()


def test_signed_files_of_what_came_and_was_replaced_meanwhile_go(repository: MemoryRepository) -> None:
    make_garbage(repository)
    lease = repository.lease(repository.store())

    def publish_many() -> None:
        for number in range(40):
            put(repository, "x", b"%d" % number)
        lease.end()

    repository.collect(repository.store(at_operation("objects", publish_many)))
    newest = read_committed(repository.store()).proven.snapshot.version
    versions = {int(name.split(".")[0]) for name in repository.bucket.metadata if "targets" in name}
    assert {*range(newest - 15, newest + 1)} <= versions
    assert not {*range(newest - 39, newest - 15)} & versions


def test_a_missing_object_is_told_from_a_failure() -> None:
    """The rules above rely on this: only NotFound means that an object does not exist."""
    assert not issubclass(NotFound, StoreError)
    assert not issubclass(StoreError, NotFound)
