"""The requests of publishers to a bucket: what never changes is read once in an edit."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.core.errors import NotFound
from lazyfs.images.publisher import publish
from lazyfs.store.recent_objects import RecentObjects
from tests.support.bucket_repository import BucketRepository
from tests.support.memory_repository import OPTIONS
from tests.support.oci_images import Built, entry, layer
from tests.support.overtaking import overtake
from tests.support.radosgw import Radosgw
from tests.support.s3_faults import S3Faults

CHANGING = {"metadata/timestamp.json", "metadata/collection.json", "metadata/2.root.json"}
"""The names of which a publisher must ask again what they hold: another publisher may have written them."""


class Publisher:
    """A publisher whose requests to the bucket are counted, and another one whose requests are not."""

    def __init__(self, server: Radosgw, proxy: S3Faults, directory: Path) -> None:
        self.proxy = proxy
        self.repository = BucketRepository(server, proxy.url, 30)
        self._directory = directory

    def publish(self, number: int, *, counted: bool) -> None:
        """Publishes an image that shares a layer with the other ones."""
        layout = self._directory / f"{number}"
        Built(
            [layer(entry("base", data=b"base" * 999)), layer(entry("own", data=b"%d" % number))]
        ).write_layout(layout)
        own = self.repository
        store = own.store(lambda _operation: None) if counted else own.store()
        options = replace(OPTIONS, place=f"r.example/app:{number}")
        publish(store, own.keys, [f"oci:{layout}"], options, own.now)

    def reads(self) -> Counter[str]:
        """Returns how often each name in the store was read."""
        return Counter(
            name
            for request in self.proxy.seen
            for name in [request.target.partition("?")[0].partition("/store/")[2]]
            if request.method == "GET" and name  # a listing has none
        )


@pytest.fixture
def publisher(s3_server: Radosgw, tmp_path: Path) -> Iterator[Publisher]:
    with S3Faults(s3_server) as proxy:
        publisher = Publisher(s3_server, proxy, tmp_path)
        for number in range(2):
            publisher.publish(number, counted=False)
        yield publisher


def test_a_publish_reads_what_cannot_change_once(publisher: Publisher) -> None:
    publisher.publish(2, counted=True)
    reads = publisher.reads()
    assert sum(name.startswith("data/") for name in reads) > 5
    assert {name for name, times in reads.items() if times > 1} <= CHANGING
    assert reads["metadata/timestamp.json"] >= 3  # before, with the lease, and at the commit
    assert publisher.repository.newest().number == 4


def test_so_does_one_that_another_publisher_overtakes(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtake(monkeypatch, lambda: publisher.publish(3, counted=False))
    publisher.publish(2, counted=True)
    assert publisher.repository.newest().number == 5
    assert not publisher.repository.problems(publisher.repository.newest().root)
    data = {name: times for name, times in publisher.reads().items() if name.startswith("data/")}
    assert set(data.values()) == {1}


class Objects:
    """Objects that can be read, with the number of reads."""

    def __init__(self, *plains: bytes) -> None:
        self.refs = [ref_of(plain) for plain in plains]
        self.plains = dict(zip(self.refs, plains, strict=True))
        self.reads: Counter[ObjectRef] = Counter()

    def __call__(self, ref: ObjectRef) -> bytes:
        self.reads[ref] += 1
        if ref not in self.plains:
            raise NotFound("not there yet")
        return self.plains[ref]


def test_what_was_used_last_is_kept_within_the_bound() -> None:
    objects = Objects(b"a" * 40, b"b" * 40, b"c" * 40, b"d" * 101)
    a, b, c, large = objects.refs
    read = RecentObjects(objects, 100)
    for ref in (a, b, a, c, a, c):  # b gives way to c
        assert read(ref) == objects.plains[ref]
    assert objects.reads == {a: 1, b: 1, c: 1}
    read(b)
    assert objects.reads[b] == 2
    for _ in range(2):
        assert read(large) == objects.plains[large]
    assert objects.reads[large] == 2  # larger than the bound: never kept


def test_an_object_that_could_not_be_read_is_asked_for_again() -> None:
    objects = Objects()
    late = ref_of(b"late")
    read = RecentObjects(objects, 100)
    with pytest.raises(NotFound):
        read(late)
    objects.plains[late] = b"late"
    assert read(late) == b"late"
