"""Bytes crafted to break the readers of tar archives, layers, manifests and catalogs.

For any bytes, a reader returns a result or raises BadData. It never raises another error, hangs, or allocates
more memory than the bytes justify. Inputs found by fuzzing are added here as examples.
"""

import gzip
import io
import stat
import time
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import BadData, UsageError
from lazyfs.core.layers import record
from lazyfs.core.layers.entry_budget import EntryBudget
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.tar import TarReader
from lazyfs.core.oci import manifest, platform, reference
from lazyfs.core.oci.remarks import remarks
from lazyfs.core.oci.start_files import additions
from lazyfs.core.params import Params
from lazyfs.images.layer_reader import Blob, LayerLimits, read_layer
from lazyfs.images.streams import decompressed
from lazyfs.store.ingest import Ingest
from tests.support.counts import count
from tests.support.oci_images import Built, entry, layer

LONG, SHORT = count(1, 1200) / 2, count(1, 240) / 2
"""Seconds for each target: half a second in the ordinary tier. The long tier gives ten minutes to readers of
data from a registry, and two minutes to readers of small inputs and of data already checked by such a
reader."""
LIMIT = 64 << 20
"""Upper bound on the bytes allocated to read a few hundred KiB: a decompressor's window and some more."""
pytestmark = pytest.mark.timeout(900)

XATTR = {"SCHILY.xattr.user.a": "v", "mtime": "1.5"}
SPARSE = {
    "GNU.sparse.major": "1",
    "GNU.sparse.minor": "0",
    "GNU.sparse.name": "s",
    "GNU.sparse.realsize": "9999",
}
LAYER = layer(
    entry("d", b"5", pax=XATTR), entry("d/f", data=b"x" * 700), entry("l", b"2", linkname="d" * 150),
    entry("h", b"1", linkname="d/f"), entry("n" * 180), entry(".wh.gone"), entry("d/.wh..wh..opq"),
    entry("s", data=b"1\n0\n5\n".ljust(512, b"\0") + b"12345", pax=SPARSE), entry("c", b"3", devmajor=1),
)  # fmt: skip
IMAGE = Built([LAYER], config={"Env": ["A=b"], "Labels": {"k": "v"}})
MANIFEST = IMAGE.blobs[IMAGE.manifest["digest"]]
CONFIG = IMAGE.blobs[IMAGE.config["digest"]]


class Everything:
    """A store that has all objects already."""

    writers = 1

    def has(self, digest: bytes) -> bool:
        return True


def _catalog() -> bytes:
    root = Inode(stat.S_IFDIR | 0o755)
    directory = root
    for level in range(3):
        assert directory.children is not None
        for name in (b"a", b"b", b"c"):
            file = Inode(stat.S_IFREG | 0o644, size=level, content=bytes(32) if level else b"")
            directory.children[name] = directory.children[name + b"2"] = file
        directory.children[b"d"] = Inode(stat.S_IFDIR | 0o700, xattrs=((b"user.a", b"b"),))
        directory = directory.children[b"d"]
    made: list[bytes] = []

    def keep(ref: ObjectRef, plain: bytes) -> None:
        made.append(plain)

    build(root, 1000, keep)
    return made[-1]


CATALOG = _catalog()


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draws the bytes with a few places changed, cut out, doubled, or inserted."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.sampled_from([1, 1, 2, 4, 12, 512]))
        change = draw(st.sampled_from(["set", "set", "digits", "cut", "double", "insert", "end"]))
        if change == "set":
            data[start : start + length] = draw(st.binary(min_size=1, max_size=12))
        elif change == "digits":
            data[start : start + length] = draw(
                st.sampled_from([b"7" * 11, b"9" * 19, b"-1", b"\x80" + b"\xff" * 11])
            )
        elif change == "cut":
            del data[start : start + length]
        elif change == "double":
            data[start:start] = data[start : start + length]
        elif change == "insert":
            data[start:start] = draw(st.binary(max_size=600))
        else:
            del data[start:]
    return bytes(data)


def fix_checksums(data: bytes) -> bytes:
    """Corrects the checksum of every block that could be a header, so that a reader gets past it to the
    damage."""
    fixed = bytearray(data)
    for start in range(0, len(fixed) - 511, 512):
        block = fixed[start : start + 512]
        if block[148:156].strip(b" \0").isdigit() and block[257:262] == b"ustar":
            total = sum(block) - sum(block[148:156]) + 8 * 32
            fixed[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(fixed)


def read_tar(data: bytes) -> None:
    reader = TarReader(io.BytesIO(data).read)
    while (member := reader.next()) is not None:
        if member.size < 1 << 24:
            while reader.read(1 << 16):
                pass


def read_whole_layer(data: bytes) -> None:
    limits, budget = LayerLimits(bytes=1 << 24, free=1 << 22), EntryBudget(10_000)
    with Ingest(Everything(), Params(), workers=1) as ingest:  # type: ignore[arg-type] # it calls `has` only
        records = read_layer(Blob("fuzz", len(data)), [data], ingest.layer(), limits=limits, budget=budget)
        ingest.finish()
    merge = Merge()
    for item in records:
        merge.apply(item)
    made: list[bytes] = []
    build(merge.root, 64, lambda _ref, plain: made.append(plain))
    for plain in made:
        read_catalog(plain)
    assert list(record.decode(record.encode(records))) == records


def read_stream(data: bytes) -> None:
    total = 0
    for part in decompressed([data[:100], data[100:]]):
        total += len(part)
        if total > 1 << 24:
            return


def read_manifest(data: bytes) -> None:
    parsed = manifest.parse(data, "fuzz")
    if isinstance(parsed, manifest.Index):
        platform.choose(parsed, manifest.Platform("linux", "amd64"), "fuzz")


def read_config(data: bytes) -> None:
    parsed = manifest.parse_config(data, "fuzz", 1)
    assert -(1 << 63) < parsed.created_ns < 1 << 63
    for line in remarks(parsed):
        assert line.isprintable()
    for addition in additions(parsed):
        assert b"\0" not in addition.data


def read_catalog(data: bytes) -> None:
    catalog = Catalog(data)
    for number in range(min(catalog.directories, 1000)):
        directory = catalog.directory(number)
        for position in range(len(directory.entries)):
            catalog.path(directory.first + position)


def read_records(data: bytes) -> None:
    for _ in record.decode([data]):
        pass


def read_reference(data: bytes) -> None:
    parsed = reference.parse(data.decode(errors="replace"))
    assert reference.parse(str(parsed)) == parsed
    assert ".." not in parsed.path.split("/")


FINDS: list[tuple[Callable[[bytes], None], bytes]] = [
    (read_config, CONFIG.replace(b"rootfs", b"r\x80otfs")),
    (read_manifest, MANIFEST.replace(b"config", b"c\xffnfig")),
]
"""(reader, input) pairs that fuzzing has found. For JSON text that is not UTF-8, msgspec raises an error that
is not a MsgspecError."""

RECORDS = b"".join(record.encode([record.Record(0, b"a", mode=0o100644), record.Record(2, b"b")]))
TARGETS: list[tuple[Callable[[bytes], None], bytes, float]] = [
    (read_tar, LAYER, LONG),
    (read_whole_layer, LAYER, LONG),
    (read_stream, gzip.compress(LAYER), SHORT),
    (read_stream, zstandard.compress(LAYER), SHORT),
    (read_manifest, MANIFEST, LONG),
    (read_config, CONFIG, SHORT),
    (read_catalog, CATALOG, LONG),
    (read_records, RECORDS, SHORT),
    (read_reference, b"registry.example:5000/a/b-c.d:v1@sha256:" + b"0" * 64, SHORT),
]


NAMES = [f"{read.__name__}-{number}" for number, (read, *_) in enumerate(TARGETS)]


@pytest.mark.parametrize(("read", "data"), FINDS)
def test_finds(read: Callable[[bytes], None], data: bytes) -> None:
    with pytest.raises(BadData):
        read(data)


@pytest.mark.beside
@pytest.mark.parametrize(("read", "whole", "seconds"), TARGETS, ids=NAMES)
def test_damaged_bytes(read: Callable[[bytes], None], whole: bytes, seconds: float) -> None:
    read(whole)
    end = time.monotonic() + seconds
    tries = 0
    rounds = 0

    def attempt(data: bytes) -> None:
        nonlocal tries
        tries += 1
        try:
            read(data)
        except (BadData, UsageError):
            pass

    while time.monotonic() < end or not tries:
        rounds += 1

        @seed(rounds)
        @settings(
            max_examples=200,
            deadline=5000,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(damaged(whole))
        def run(data: bytes) -> None:
            attempt(fix_checksums(data) if whole is LAYER else data)

        run()
    assert tries >= 100


@pytest.mark.parametrize("read", [read for read, *_ in TARGETS], ids=NAMES)
@settings(max_examples=count(100, 5000), suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=2000))
@example(data=b"")
def test_any_bytes(read: Callable[[bytes], None], data: bytes) -> None:
    try:
        read(data)
    except (BadData, UsageError):
        pass


@pytest.mark.parametrize(("read", "whole"), [target[:2] for target in TARGETS[:3]], ids=NAMES[:3])
def test_memory_stays_bounded(read: Callable[[bytes], None], whole: bytes) -> None:
    """Some inputs claim gigabytes in a header, others expand to gigabytes."""
    info, _ = entry("x")
    claims = []
    for kind in (b"x", b"L", b"K", b"g", b"0", b"S"):
        info.type, info.size = kind, 1 << 40
        claims.append(info.tobuf(format=1) + bytes(2048))
    claims.append(gzip.compress(bytes(256 << 20), 1))
    tracemalloc.start()
    try:
        for data in claims:
            tracemalloc.reset_peak()
            try:
                read(data)
            except BadData:
                pass
            assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()
