"""The contract of a store (lazyfs/store/protocol.py), tested with every implementation in OPENERS."""

import secrets
import threading
import time
from collections.abc import Callable

import pytest

from lazyfs.core import codec
from lazyfs.core.digest import Digest, sha256
from lazyfs.core.errors import NotFound, UsageError
from lazyfs.store import Store, StoreConflict, create_store, open_store
from tests.support.buckets import new_place, open_place
from tests.support.memory_store import Bucket, MemoryStore
from tests.support.radosgw import Radosgw

Opener = Callable[[pytest.FixtureRequest], Callable[[], Store]]
"""Makes an empty store for one test. Returns a function; each call of it opens the store as one more
publisher."""


def directory(request: pytest.FixtureRequest) -> Callable[[], Store]:
    location = str(request.getfixturevalue("tmp_path") / "store")
    create_store(location)
    return lambda: open_store(location)


def memory(request: pytest.FixtureRequest) -> Callable[[], Store]:
    shared = Bucket(time.time)
    return lambda: MemoryStore(shared)


def s3(request: pytest.FixtureRequest) -> Callable[[], Store]:
    server: Radosgw = request.getfixturevalue("s3_server")
    place = new_place(server)
    return lambda: open_place(server, place)


OPENERS: list[Opener] = [directory, memory, s3]
"""The stores under test; a new kind of store is added here."""
NAMED_AT_ONCE: list[Opener] = [s3]
"""The stores in which an object is visible under its name even before `sync`."""


@pytest.fixture(params=OPENERS, ids=lambda opener: opener.__name__)
def opener(request: pytest.FixtureRequest) -> Opener:
    """Returns the kind of store under test."""
    chosen: Opener = request.param
    return chosen


@pytest.fixture
def another(request: pytest.FixtureRequest, opener: Opener) -> Callable[[], Store]:
    """Returns a function that opens the test's store once more, as another publisher."""
    return opener(request)


@pytest.fixture
def store(another: Callable[[], Store]) -> Store:
    return another()


def put(store: Store, plain: bytes) -> Digest:
    digest = sha256(plain)
    store.put(digest, codec.encode(plain))
    return digest


def test_an_object_is_read_back_at_once_and_by_others_after_sync(
    store: Store, another: Callable[[], Store]
) -> None:
    digest = put(store, b"hello")
    assert store.has(digest)
    frame = store.get(digest)
    assert codec.decode(frame, 5) == b"hello"
    store.sync()
    for publisher in (store, another()):
        assert publisher.has(digest)
        assert publisher.get(digest) == frame


def test_an_object_that_is_not_there_is_not_found(store: Store) -> None:
    digest = sha256(b"no")
    assert not store.has(digest)
    with pytest.raises(NotFound, match=digest.hex()):
        store.get(digest)


def test_the_first_writer_of_an_object_wins(store: Store, another: Callable[[], Store]) -> None:
    digest, other = sha256(b"x"), another()
    store.put(digest, b"first")
    store.sync()
    for later in (store, other):
        later.put(digest, b"later")
        later.sync()
        assert later.get(digest) == b"first"


def test_the_listing_has_every_synced_object_once_whoever_put_it(
    store: Store, another: Callable[[], Store], opener: Opener
) -> None:
    assert list(store.objects()) == []
    expected = {put(store, b"%d" % number) for number in range(40)}
    store.sync()
    put(store, b"7")
    other = another()
    expected.add(put(other, b"of another"))
    other.sync()
    not_synced = put(other, b"not synced")
    if opener in NAMED_AT_ONCE:
        expected.add(not_synced)
    store.write_metadata("1.root.json", b"no object", expected=None)
    listed = [stored.digest for stored in store.objects()]
    assert len(listed) == len(expected)
    assert set(listed) == expected


def test_the_listing_tells_stored_sizes_and_times_on_the_clock_of_the_store(store: Store) -> None:
    before = store.now()
    digest = put(store, b"hello")
    store.sync()
    [listed] = store.objects()
    assert (listed.digest, listed.size) == (digest, len(store.get(digest)))
    assert before - 0.1 <= listed.modified <= store.now() + 0.1


def test_what_was_deleted_is_gone_for_all_and_can_be_put_again(
    store: Store, another: Callable[[], Store]
) -> None:
    gone, kept = put(store, b"gone"), put(store, b"kept")
    store.sync()
    other = another()
    other.delete([gone, sha256(b"never there")])
    for publisher in (store, other):
        assert (publisher.has(gone), publisher.has(kept)) == (False, True)
        with pytest.raises(NotFound):
            publisher.get(gone)
    assert [stored.digest for stored in store.objects()] == [kept]
    put(store, b"gone")
    store.sync()
    assert other.has(gone)


def test_metadata_is_listed_and_deleted_by_name(store: Store, another: Callable[[], Store]) -> None:
    for name in ("1.targets.json", "2.targets.json"):
        store.write_metadata(name, b"x", expected=None)
    assert sorted(another().metadata_names()) == ["1.targets.json", "2.targets.json"]
    for _ in range(2):
        another().delete_metadata("1.targets.json")
    assert list(store.metadata_names()) == ["2.targets.json"]
    assert store.read_metadata("1.targets.json") is None
    store.write_metadata("1.targets.json", b"y", expected=None)


def test_what_is_left_without_a_name_goes_once_it_is_old(
    store: Store, another: Callable[[], Store], opener: Opener
) -> None:
    killed = put(another(), b"of a publisher that was killed")
    mine = put(store, b"mine")
    store.delete_unnamed(store.now() - 60)
    store.sync()
    assert store.has(mine)
    store.delete_unnamed(store.now() + 60)
    assert store.has(mine)
    named = {mine, killed} if opener in NAMED_AT_ONCE else {mine}
    assert {stored.digest for stored in store.objects()} == named


def test_a_collection_within_the_spared_space_changes_no_object(store: Store) -> None:
    digest = put(store, b"x")
    store.sync()
    for _ in range(2):
        with store.spare():
            store.write_metadata(f"list-{secrets.token_hex(4)}", b"y" * 1000, expected=None)
    assert store.has(digest)


def test_what_was_abandoned_without_a_name_is_gone_and_what_was_synced_stays(
    store: Store, opener: Opener
) -> None:
    kept = put(store, b"kept")
    store.sync()
    dropped = put(store, b"dropped")
    store.abandon()
    assert (store.has(kept), store.has(dropped)) == (True, opener in NAMED_AT_ONCE)
    put(store, b"dropped")
    store.sync()
    assert store.has(dropped)


def test_metadata_is_written_only_over_the_expected_bytes(store: Store, another: Callable[[], Store]) -> None:
    name, other = "timestamp.json", another()
    assert store.read_metadata(name) is None
    with pytest.raises(StoreConflict, match=name):
        store.write_metadata(name, b"0", expected=b"anything")
    store.write_metadata(name, b"1", expected=None)
    for publisher in (store, other):
        for wrong in (None, b"", b"2", b"11"):
            with pytest.raises(StoreConflict, match="another publisher was first"):
                publisher.write_metadata(name, b"3", expected=wrong)
        assert publisher.read_metadata(name) == b"1"
    other.write_metadata(name, b"2", expected=b"1")
    assert store.read_metadata(name) == b"2"


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", ""])
def test_metadata_lies_in_its_folder(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="metadata name"):
        store.write_metadata(name, b"x", expected=None)
    with pytest.raises(ValueError, match="metadata name"):
        store.read_metadata(name)
    with pytest.raises(ValueError, match="metadata name"):
        store.delete_metadata(name)


def test_of_publishers_that_change_one_name_side_by_side_no_change_is_lost(
    store: Store, another: Callable[[], Store]
) -> None:
    """Each publisher adds 1 to a number as often as it can. The final number must equal the number of
    successful writes."""
    store.write_metadata("sum.json", b"0", expected=None)
    added: list[int] = []

    def add() -> None:
        own = another()
        while len(added) < 60:
            try:
                with own.exclusive():
                    before = own.read_metadata("sum.json")
                    assert before is not None
                    own.write_metadata("sum.json", b"%d" % (int(before) + 1), expected=before)
                    added.append(1)
            except StoreConflict:
                continue

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read_metadata("sum.json") == b"%d" % len(added)


def test_of_publishers_that_create_one_name_side_by_side_one_wins(another: Callable[[], Store]) -> None:
    stores = [another() for _ in range(4)]
    start = threading.Barrier(len(stores))
    won: list[bytes] = []

    def create(store: Store, data: bytes) -> None:
        start.wait()
        try:
            store.write_metadata("2.targets.json", data, expected=None)
            won.append(data)
        except StoreConflict:
            pass

    threads = [
        threading.Thread(target=create, args=(store, b"%d" % number)) for number, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [stores[0].read_metadata("2.targets.json")]


def test_exclusive_is_given_back_however_its_block_ends(store: Store, another: Callable[[], Store]) -> None:
    with pytest.raises(ZeroDivisionError), store.exclusive():
        raise ZeroDivisionError
    with another().exclusive(), pytest.raises(ValueError, match="inner"):
        raise ValueError("inner")
    with store.exclusive():
        store.write_metadata("x.json", b"x", expected=None)


@pytest.mark.parametrize("location", ["gs://bucket/prefix", "ftp://host/store", "https://host/store"])
def test_an_unknown_kind_of_store_names_the_known_ones(location: str) -> None:
    scheme = location.partition(":")[0]
    for enter in (open_store, create_store):
        with pytest.raises(
            UsageError, match=f"^store {location}: .* a directory, .* s3://BUCKET/PREFIX, not to {scheme}://$"
        ):
            enter(location)
