"""A read-only directory of a store's objects that is asked before the origin: only right bytes of it are
used, and it never makes a read fail."""

import random
import time
from pathlib import Path

import pytest

from lazyfs.core.codec import encode
from lazyfs.core.digest import ObjectRef, object_path, sha256
from lazyfs.core.errors import NotFound, TransportError
from lazyfs.transport.fetcher import Request
from lazyfs.transport.local import LocalFetcher
from lazyfs.transport.lower_store import PAUSE, LowerFirst
from tests.support.store_files import object_request
from tests.support.zstd_bombs import peak_of, rle_bomb


class Counting(LocalFetcher):
    """A fetcher that counts requests, and fails when the test tells it to."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        super().__init__(str(directory))
        self.asked: list[str] = []
        self.broken = False
        self.bug = False

    def fetch(self, request: Request, *rest: object) -> bytes:
        self.asked.append(request.path)
        if self.bug:
            raise OverflowError
        if self.broken:
            raise TransportError("Stale file handle")
        return super().fetch(request)


class World:
    """Two stores, and a clock that the test moves."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.now = 1000.0
        self.lower, self.upper = Counting(base / "lower"), Counting(base / "upper")
        self.fetcher = LowerFirst(self.lower, self.upper, clock=lambda: self.now)

    def store(self, where: str, plain: bytes, frame: bytes | None = None) -> ObjectRef:
        ref = ObjectRef(sha256(plain), len(plain))
        path = self.base / where / object_path(ref.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(plain) if frame is None else frame)
        return ref

    def fetch(self, ref: ObjectRef) -> bytes:
        return self.fetcher.fetch(object_request(ref))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_the_site_has_is_not_asked_of_the_network(world: World) -> None:
    ref = world.store("lower", b"content")
    assert world.fetch(ref) == b"content"
    assert world.upper.asked == []


@pytest.mark.parametrize(
    "frame", [encode(b"another"), encode(b"content")[:-1], b"", b"garbage", encode(b"contenu"), bytes(5000)]
)
def test_what_the_site_has_wrong_comes_from_the_network(world: World, frame: bytes) -> None:
    world.store("lower", b"content", frame)
    ref = world.store("upper", b"content")
    assert world.fetch(ref) == b"content"
    assert len(world.lower.asked) == len(world.upper.asked) == 1


def test_what_fills_memory_at_the_site_comes_from_the_network(world: World) -> None:
    # so large that the frame of a bomb stays within the size limit
    plain = random.Random(0).randbytes(3 << 20)
    world.store("lower", plain, rle_bomb(20_000, len(plain)))
    ref = world.store("upper", plain)

    def fetched() -> None:
        assert world.fetch(ref) == plain

    assert peak_of(fetched) < 24 << 20  # the frame and its plaintext, each once in parts and once joined


def test_what_nobody_foresaw_at_the_site_comes_from_the_network(world: World) -> None:
    ref = world.store("upper", b"content")
    world.lower.bug = True
    for _ in range(3):
        assert world.fetch(ref) == b"content"
    assert len(world.lower.asked) == 1


def test_what_the_site_lacks_comes_from_the_network(world: World) -> None:
    ref = world.store("upper", b"content")
    assert world.fetch(ref) == b"content"
    with pytest.raises(NotFound):
        world.fetch(ObjectRef(sha256(b"nowhere"), 7))


def test_signed_metadata_never_comes_from_the_site(world: World) -> None:
    (world.base / "lower" / "metadata").mkdir()
    (world.base / "lower" / "metadata" / "timestamp.json").write_bytes(b"old")
    (world.base / "upper" / "metadata").mkdir()
    (world.base / "upper" / "metadata" / "timestamp.json").write_bytes(b"new")
    request = Request(
        "metadata/timestamp.json", max_bytes=100, deadline=time.monotonic() + 10, accept=lambda data: data
    )
    assert world.fetcher.fetch(request) == b"new"
    assert world.lower.asked == []


def test_a_failing_directory_is_left_alone_for_a_while(world: World) -> None:
    ref = world.store("upper", b"content")
    world.store("lower", b"content")
    world.lower.broken = True
    for _ in range(5):
        assert world.fetch(ref) == b"content"
    assert len(world.lower.asked) == 1
    world.lower.broken = False
    world.now += PAUSE
    assert world.fetch(ref) == b"content"
    assert len(world.upper.asked) == 5
