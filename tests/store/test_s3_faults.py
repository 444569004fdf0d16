"""A store on a real radosgw behind a proxy that fails as gateways do. No commit is lost, and no commit that
was made is reported as failed."""

import itertools
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lazyfs.core import codec
from lazyfs.core.bounds import OBJECT
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Params, Revision
from lazyfs.images.publisher import PublishOptions, publish
from lazyfs.repository import lifecycle
from lazyfs.repository.commit import read_revision
from lazyfs.repository.history import revisions
from lazyfs.repository.keys import Keys
from lazyfs.store import StoreConflict, StoreError
from lazyfs.store.check import check
from lazyfs.store.s3.pace import MOST, Pace
from lazyfs.store.s3.store import BucketStore
from tests.support.buckets import environment, new_place, open_client, open_place
from tests.support.memory_repository import OPTIONS, signers
from tests.support.oci_images import Built, entry, layer
from tests.support.radosgw import Account, Radosgw
from tests.support.s3_admin import keep_versions
from tests.support.s3_faults import (
    CONFLICT,
    CUT,
    INTERNAL,
    LOST,
    NONE,
    SLOW_DOWN,
    Answer,
    Fault,
    Rule,
    S3Faults,
    S3Request,
)

STAMP = "timestamp.json"


def now() -> datetime:
    return datetime.now(UTC)


def layout(directory: Path, name: str) -> str:
    """Writes an image of forty files, each in a pack of its own; returns the layout's name for `publish`."""
    files = [entry(f"{name}/{number}", data=bytes([number]) * 70_000) for number in range(40)]
    Built([layer(*files)]).write_layout(directory / name)
    return f"oci:{directory / name}"


class Site:
    """A repository in a bucket, seen through the proxy."""

    def __init__(self, server: Radosgw, proxy: S3Faults, directory: Path) -> None:
        self.server = server
        self.proxy = proxy
        self.directory = directory
        self.place = new_place(server)
        root, publisher, stamper = signers()
        self.keys = Keys([publisher, stamper])
        new = Revision("test.example.org", 1, 0, ObjectRef(Digest(b""), 0), Params())
        lifecycle.begin(open_place(server, self.place), new, [root], 1, publisher, stamper, now(), 3650)

    def store(self, **options: object) -> BucketStore:
        return open_place(self.server, self.place, self.proxy.url, **options)  # type: ignore[arg-type]

    def publish(self, name: str, store: BucketStore | None = None) -> int:
        """Publishes an image; returns the number of the first revision with this image."""
        source = layout(self.directory, name)
        options = PublishOptions(OPTIONS.images, place=f"r.example/{name}:1")
        return publish(store or self.store(), self.keys, [source], options, now).revision.number

    def assert_whole(self, *names: str) -> None:
        """Asserts that the newest revision has these images, and that every object it refers to exists."""
        store = open_place(self.server, self.place)
        newest = read_revision(store)
        assert check(store, newest.root, history=newest.history).problems == []
        changed = [change.path.decode() for past in revisions(store) for change in past.changes]
        assert sorted(changed) == sorted(f"r.example/{name}:1" for name in names)


@pytest.fixture
def proxy(s3_server: Radosgw) -> Iterator[S3Faults]:
    with S3Faults(s3_server) as proxy:
        yield proxy


@pytest.fixture
def site(s3_server: Radosgw, proxy: S3Faults, tmp_path: Path) -> Site:
    return Site(s3_server, proxy, tmp_path)


def in_turn(*faults: Fault) -> Rule:
    """Returns a rule that applies these faults to the requests in turn, over and over."""
    turn = itertools.cycle(faults)
    mutex = threading.Lock()

    def rule(_request: S3Request) -> Fault:
        with mutex:
            return next(turn)

    return rule


def at_writes_of(name: str, *faults: Fault) -> Rule:
    """Returns a rule that applies these faults to the first writes of the name, one fault each."""
    left = list(faults)

    def rule(request: S3Request) -> Fault:
        return left.pop(0) if left and request.is_write_of == name else NONE

    return rule


def test_a_publish_and_its_commit_survive_every_kind_of_fault(site: Site) -> None:
    site.proxy.rule = in_turn(NONE, INTERNAL, NONE, NONE, CUT, NONE, LOST, NONE, SLOW_DOWN, NONE, NONE)
    assert site.publish("a") == 2
    assert site.publish("b") == 3
    site.assert_whole("a", "b")


@pytest.mark.parametrize("faults", [[LOST], [LOST, LOST], [INTERNAL, LOST], [LOST, CUT, SLOW_DOWN, LOST]])
def test_a_commit_whose_answer_was_lost_is_known_to_have_happened(site: Site, faults: list[Fault]) -> None:
    site.proxy.rule = at_writes_of(STAMP, *faults)
    assert site.publish("a") == 2
    assert sum(request.is_write_of == STAMP for request in site.proxy.seen) == len(faults) + 1
    site.assert_whole("a")


@pytest.mark.parametrize("name", ["x.json", "collection.json", STAMP])
def test_a_write_whose_answer_was_lost_is_no_conflict_and_an_equal_one_of_another_publisher_is(
    site: Site, name: str
) -> None:
    store, other = site.store(), open_place(site.server, site.place)
    before = store.read_metadata(name)
    site.proxy.rule = at_writes_of(name, LOST, INTERNAL)
    store.write_metadata(name, b"1", expected=before)
    site.proxy.rule = at_writes_of(
        name, CUT, Fault(first=lambda: other.write_metadata(name, b"2", expected=b"1"))
    )
    with pytest.raises(StoreConflict, match="another publisher was first"):
        store.write_metadata(name, b"2", expected=b"1")
    assert store.read_metadata(name) == b"2"


def test_a_commit_is_not_lost_whose_answer_was_lost_and_that_was_replaced_meanwhile(site: Site) -> None:
    def another() -> None:
        site.proxy.rule = at_writes_of("")
        site.publish("b", open_place(site.server, site.place))

    site.proxy.rule = at_writes_of(STAMP, LOST, Fault(first=another))
    assert site.publish("a") == 3
    site.assert_whole("a", "b")


def test_a_commit_that_another_publisher_was_faster_than_is_made_again(site: Site) -> None:
    def another() -> None:
        site.proxy.rule = at_writes_of("")
        site.publish("b", open_place(site.server, site.place))

    site.proxy.rule = at_writes_of(STAMP, Fault(first=another))
    assert site.publish("a") == 3
    site.assert_whole("a", "b")


def test_409_is_not_412(site: Site) -> None:
    """A server answers 409 if two conditional writes collide. It may have made neither, so they are tried
    again."""
    site.proxy.rule = at_writes_of(STAMP, CONFLICT, CONFLICT)
    before = len([request for request in site.proxy.seen if request.is_write_of == STAMP])
    assert site.publish("a") == 2
    assert len([request for request in site.proxy.seen if request.is_write_of == STAMP]) == before + 3
    store = site.store()
    site.proxy.rule = at_writes_of("x.json", CONFLICT)
    store.write_metadata("x.json", b"1", expected=None)
    assert store.read_metadata("x.json") == b"1"


def test_a_write_that_fails_to_the_end_is_looked_at_before_it_is_said_to_have_failed(site: Site) -> None:
    store = site.store()
    site.proxy.rule = at_writes_of("x.json", LOST, Fault(answer=Answer(400, "InvalidRequest")))
    store.write_metadata("x.json", b"1", expected=None)
    site.proxy.rule = at_writes_of("y.json", Fault(answer=Answer(400, "InvalidRequest")))
    with pytest.raises(StoreError, match=r"PUT metadata/y\.json: status 400 InvalidRequest"):
        store.write_metadata("y.json", b"1", expected=None)


def without_conditions(name: str) -> Rule:
    return lambda request: Fault(without_conditions=True) if name in request.headers else NONE


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
def test_a_bucket_that_honours_no_conditions_is_refused_before_anything_is_written(
    site: Site, header: str
) -> None:
    site.proxy.rule = without_conditions(header)
    site.proxy.forget()
    with pytest.raises(UsageError, match=f"(?i)does not honour {header}") as refused:
        site.store().write_metadata("x.json", b"1", expected=None)
    assert site.place in str(refused.value)
    assert {request.is_write_of for request in site.proxy.seen} <= {"", ".conditions"}


def test_a_bucket_without_conditional_writes_is_refused(site: Site) -> None:
    site.proxy.rule = lambda request: (
        Fault(answer=Answer(501, "NotImplemented")) if "if-none-match" in request.headers else NONE
    )
    with pytest.raises(UsageError, match="refuses conditional writes"):
        site.store().write_metadata("x.json", b"1", expected=None)


def test_a_versioned_bucket_which_honours_no_conditions_is_refused(s3_server: Radosgw) -> None:
    place = new_place(s3_server, "versioned")
    keep_versions(s3_server, place.split("/")[2])
    with pytest.raises(UsageError, match="refuses If-Match where it holds"):
        open_place(s3_server, place).write_metadata("x.json", b"1", expected=None)


def test_a_bucket_that_gives_conditions_up_later_is_found_out_by_the_commit(site: Site) -> None:
    def give_up() -> None:
        site.proxy.rule = lambda _request: Fault(without_conditions=True)

    site.proxy.rule = at_writes_of(STAMP, Fault(first=give_up))
    with pytest.raises(UsageError, match="does not honour If-None-Match"):
        site.publish("a")


def test_a_commit_that_was_overwritten_unseen_is_noticed(site: Site) -> None:
    """Both publishers start from revision 1. The second one's write loses its precondition on the way, and so
    overwrites the first one's commit."""

    def give_up() -> None:
        site.publish("b", open_place(site.server, site.place))
        site.proxy.rule = lambda _request: Fault(without_conditions=True)

    site.proxy.rule = at_writes_of(STAMP, Fault(first=give_up, without_conditions=True))
    with pytest.raises(UsageError, match="see the last commits: lazyfs log"):
        site.publish("a")


def test_slow_down_means_fewer_at_once(site: Site) -> None:
    overlap = threading.Event()

    def one_at_once(request: S3Request) -> Fault:
        if site.proxy.at_once > 1:
            overlap.set()
            return SLOW_DOWN
        if request.method == "PUT" and "/data/" in request.target:
            overlap.wait(20)  # the first write, until there is a second beside it
        return NONE

    site.proxy.rule = one_at_once
    pace = Pace()
    store = BucketStore(open_client(site.server, site.place, site.proxy.url, pace=pace))
    assert site.publish("a", store) == 2
    refused = sum(1 for fault in site.proxy.faults if fault == SLOW_DOWN)
    assert refused
    assert pace.limit < MOST
    while pace.limit > 1:  # as after more refusals
        with pace.turn() as ticket:
            pace.slow_down(ticket)
    assert pace.limit == 1
    exceeded: list[int] = []

    def watch(_request: S3Request) -> Fault:
        time.sleep(0.05)  # so that requests which may be under way together are
        if site.proxy.at_once > 2 * pace.limit:  # an answered request may still be counted beside the next
            exceeded.append(site.proxy.at_once)
        return NONE

    site.proxy.rule = watch
    frames = [b"frame %d" % number for number in range(8)]
    with ThreadPoolExecutor(len(frames)) as threads:
        list(threads.map(lambda frame: store.put(sha256(frame), frame), frames))
    assert exceeded == []
    site.proxy.rule = lambda _request: NONE
    assert site.publish("b", store) == 3
    site.assert_whole("a", "b")


def test_uploads_run_side_by_side(site: Site) -> None:
    together = threading.Barrier(4)

    def rule(request: S3Request) -> Fault:
        if request.method == "PUT" and "/data/" in request.target and not together.broken:
            try:
                together.wait(20)
            except threading.BrokenBarrierError:
                pass
            else:
                together.abort()
        return NONE

    site.proxy.rule = rule
    site.publish("a")
    assert together.broken
    assert site.proxy.most_at_once >= 4


def test_the_largest_object_goes_up_in_one_request(site: Site) -> None:
    """Even the largest object is stored by one PUT. lazyfs makes no multipart uploads, whose completion may
    answer 200 although it has failed."""
    store = site.store()
    frame = bytes(OBJECT)
    site.proxy.forget()
    store.put(sha256(frame), frame)
    assert [request.method for request in site.proxy.seen] == ["PUT"]
    assert not {"uploads", "uploadId", "partNumber"} & set(re.split("[?&=]", site.proxy.seen[0].target))
    assert store.get(sha256(frame)) == frame


def test_an_answer_of_200_that_carries_an_error_is_no_success(site: Site) -> None:
    hollow = Fault(answer=Answer(200, "InternalError"))
    answered: set[str] = set()

    def rule(request: S3Request) -> Fault:
        name = request.is_write_of
        if not name or name in answered:
            return NONE
        answered.add(name)
        return hollow

    site.proxy.rule = rule
    site.publish("a")
    assert len(answered) >= 40
    assert STAMP in answered
    site.assert_whole("a")


def test_bytes_that_change_on_the_way_up_are_refused_and_sent_again(site: Site) -> None:
    store = site.store()
    plain = b"x" * 1000
    digest = sha256(plain)
    name = digest.hex()[2:]
    site.proxy.rule = at_writes_of(name, Fault(flip=True))
    store.put(digest, codec.encode(plain))
    assert codec.decode(store.get(digest), len(plain)) == plain
    assert sum(request.is_write_of == name for request in site.proxy.seen) == 2


def test_a_listing_that_breaks_off_goes_on_after_its_last_name(site: Site) -> None:
    store = site.store()
    expected = {stored.digest for stored in store.objects()}
    for number in range(5):
        expected.add(digest := sha256(b"%d" % number))
        store.put(digest, codec.encode(b"%d" % number))
    site.proxy.rule = in_turn(CUT, NONE, SLOW_DOWN, NONE)
    listed = [stored.digest for stored in store.objects()]
    assert len(listed) == len(expected)
    assert set(listed) == expected


def test_what_a_listing_leaves_out_is_there(site: Site) -> None:
    empty = Fault(
        answer=Answer(200, "", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    )
    site.publish("a")
    site.proxy.rule = lambda request: (
        empty if "list-type=2" in request.target and "data" in request.target else NONE
    )
    store = site.store()
    assert list(store.objects()) == []
    newest = read_revision(store)
    assert store.has(newest.root.digest)
    assert check(store, newest.root).problems == []


def test_credentials_that_are_renewed_in_mid_run_are_taken(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)

    def write(account: Account) -> None:
        text = f"[default]\naws_access_key_id={account.access_key}\naws_secret_access_key={account.secret}\n"
        (home / ".aws/credentials").write_text(text)

    old, new = site.server.account, site.server.add_key("lazyfs")
    write(old)
    expired = Fault(answer=Answer(403, "ExpiredToken"))
    seen = itertools.count()

    def rule(request: S3Request) -> Fault:
        if next(seen) == 30:
            write(new)
        used = f"Credential={old.access_key}/" in request.headers["authorization"]
        return expired if used and next(seen) > 31 else NONE

    site.proxy.rule = rule
    variables = {"AWS_ENDPOINT_URL": site.proxy.url, "HOME": str(home)}
    store = BucketStore(open_client(site.server, site.place, variables=variables))
    assert site.publish("a", store) == 2
    site.assert_whole("a")
    assert f"Credential={new.access_key}/" in site.proxy.seen[-1].headers["authorization"]


def test_credentials_that_are_over_end_the_run_with_an_error_that_shows_none(site: Site) -> None:
    variables = environment(site.server, site.proxy.url) | {
        "AWS_SECRET_ACCESS_KEY": "wrong/secret",
        "AWS_SESSION_TOKEN": "session/token",
    }
    store = BucketStore(open_client(site.server, site.place, variables=variables))
    with pytest.raises(StoreError, match="status 403") as refused:
        store.read_metadata(STAMP)
    for secret in ("wrong/secret", "session/token", site.server.account.access_key):
        assert secret not in str(refused.value)
    assert len(site.proxy.seen) == 1


def test_a_bucket_that_is_not_there_is_no_empty_store(s3_server: Radosgw) -> None:
    store = open_place(s3_server, "s3://no-such-bucket/x")
    for ask in (
        lambda: store.read_metadata(STAMP),
        lambda: store.get(sha256(b"x")),
        lambda: list(store.objects()),
    ):
        with pytest.raises(StoreError, match="NoSuchBucket: make the bucket first"):
            ask()


def test_a_server_that_stays_away_ends_the_run_in_time(site: Site) -> None:
    site.proxy.rule = lambda _request: CUT
    with pytest.raises(StoreError, match=f"^store {site.place}: GET metadata/{STAMP}: .* times in 1 s$"):
        site.store(patience=1).read_metadata(STAMP)
