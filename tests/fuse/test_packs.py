"""Packs on a mount: a missing pack costs one request, and no wrong byte of a pack reaches a reader."""

import errno
import mmap
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lazyfs.core import codec
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef, object_path, sha256
from lazyfs.core.params import Params
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import mounted, status
from tests.support.fault_server import FaultServer, of_directory
from tests.support.repositories import Repository
from tests.support.until import until

pytestmark = pytest.mark.root
FILES = 120
LIMITS = Params(pack_files=256 << 10)
"""With this limit, some files are too large for a pack, but still a single object."""


class Site:
    """A repository with a published directory of small and large files, and the server in front of it."""

    def __init__(self, directory: Path, server: FaultServer, kind: str) -> None:
        self.directory, self.server, self.kind = directory, server, kind
        chance = random.Random(1)
        self.files = {
            f"d{number % 7}/f{number}": chance.randbytes(chance.randint(1, 30_000)) for number in range(FILES)
        } | {
            "empty": b"",
            "limit": chance.randbytes(LIMITS.pack_files),
            "above": chance.randbytes(LIMITS.pack_files + 1),
            "large": chance.randbytes((2 << 20) + 17),
            "d0/again": chance.randbytes(3000),
        }
        self.files["d1/again"] = self.files["d0/again"]
        self.repository = Repository(directory, LIMITS)
        self.repository.publish_files(self.files, directory / "tree", "lib/1")
        self.listed = Listed(open_tree(self.repository.path), "lib/1")
        server.content = of_directory(self.repository.path)

    def pack_of(self, name: str) -> ObjectRef:
        place = self.listed.place(name.encode())
        assert place is not None
        return place.ref

    def in_pack(self, pack: ObjectRef) -> list[str]:
        """Returns the names of the files that lie in a pack."""
        return [
            name
            for name, data in self.files.items()
            if data and name != "large" and self.pack_of(name) == pack
        ]

    def mounted(self) -> AbstractContextManager[Path]:
        return mounted(
            self.server.url, self.directory / "mnt", "--trust", self.repository.path / "metadata/1.root.json",
            "--cache", self.directory / "cache", "--fuse", self.kind,
        )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    with FaultServer(lambda _: None) as server:
        yield Site(tmp_path, server, kind)


def test_every_file_is_read_as_it_was_published(site: Site) -> None:
    large = site.files["large"]
    chunks = [large[at : at + (1 << 20)] for at in range(0, len(large), 1 << 20)]
    listed = sha256(ChunkList.encode([sha256(chunk) for chunk in chunks], len(large), 20))
    with site.mounted() as mnt:
        top = mnt / "lib/1"
        for name, data in site.files.items():
            assert (top / name).read_bytes() == data, name
            assert (top / name).stat().st_size == len(data)
            digest = b"sha256:" + sha256(data).hex().encode() if data else b""
            if name == "large":
                assert os.getxattr(top / name, "user.chunks") == b"3"
                assert os.getxattr(top / name, "user.digest") == b"sha256:" + listed.hex().encode()
            else:
                assert os.getxattr(top / name, "user.digest") == digest
                assert os.getxattr(top / name, "user.chunks") == (b"1" if data else b"0")
        with (
            open(top / "limit", "rb") as opened,
            mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        ):
            assert mapped[-10:] == site.files["limit"][-10:]
        with open(top / "d3/f3", "rb") as opened:
            size = len(site.files["d3/f3"])
            for start, length in ((0, 1), (size - 1, 1), (size - 1, 100), (size, 1), (size // 2, 77)):
                assert os.pread(opened.fileno(), length, start) == site.files["d3/f3"][start : start + length]


def test_one_miss_of_a_pack_is_one_request_however_many_files_are_wanted(site: Site) -> None:
    pack = site.pack_of("d3/f3")
    wanted = site.in_pack(pack)
    assert len(wanted) > 20
    path = f"/{object_path(pack.digest)}"
    asked, go = threading.Event(), threading.Event()
    stored = of_directory(site.repository.path)

    def content(asked_path: str) -> bytes | None:
        if asked_path == path:
            asked.set()
            assert go.wait(60)
        return stored(asked_path)

    with site.mounted() as mnt:
        for name in wanted:
            os.lstat(mnt / "lib/1" / name)
        site.server.forget()
        site.server.content = content
        with ThreadPoolExecutor(len(wanted)) as readers:
            reading = {name: readers.submit((mnt / "lib/1" / name).read_bytes) for name in wanted}
            try:
                assert asked.wait(60)
                until(
                    lambda: sum(one["calls"] for one in status(mnt)["waiting"].values()) >= len(wanted) // 2
                )
            finally:
                go.set()
            assert {name: read.result() for name, read in reading.items()} == {
                name: site.files[name] for name in wanted
            }
        assert site.server.counts()[path] == 1


def test_a_wrong_byte_in_a_pack_reaches_no_reader(site: Site) -> None:
    pack = site.pack_of("d3/f3")
    stored = site.repository.path / object_path(pack.digest)
    good = stored.read_bytes()
    plain = codec.decode(good, pack.size)
    place = site.listed.place(b"d3/f3")
    assert place is not None
    untouched = next(name for name in site.in_pack(pack) if name != "d3/f3")
    with site.mounted() as mnt:
        for at in (place.start, 0, pack.size - 1):
            stored.write_bytes(codec.encode(plain[:at] + bytes([plain[at] ^ 1]) + plain[at + 1 :]))
            for name in ("d3/f3", untouched):
                with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
                    (mnt / "lib/1" / name).read_bytes()
                assert caught.value.errno == errno.EIO
        stored.write_bytes(good)
        for name in ("d3/f3", untouched):
            assert (mnt / "lib/1" / name).read_bytes() == site.files[name]
