"""A cold start with a profile: it makes few requests. Wrong bundles do no harm."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lazyfs.core import profile
from lazyfs.core.digest import object_path
from lazyfs.repository.diff import resolve
from tests.support.catalog_listing import open_tree
from tests.support.cli import lazyfs, mounted
from tests.support.fault_server import FaultServer, of_directory
from tests.support.images import file, image, live
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root
FILES = 60
LARGE = os.urandom(3 << 17)


class Site:
    """A repository whose image has a profile of one start, and the server in front of it."""

    def __init__(self, directory: Path, server: FaultServer, kind: str) -> None:
        self.directory, self.server, self.kind = directory, server, kind
        self.published = Published(directory)
        objects = self.published.objects
        folders = {f"d{at}": {f"f{at}": b"content of %d" % at} for at in range(FILES)}
        one = image(objects, {**folders, "large": file(objects, LARGE, shift=17)})
        self.published.commit(live(objects, {"lib": {"a:1": one}}))
        server.content = of_directory(self.published.store)
        self._caches = 0

    @property
    def root(self) -> Path:
        return self.published.store / "metadata/1.root.json"

    def start(self, mnt: Path) -> None:
        """Reads all files of the image, as the profiled program does."""
        for at in range(FILES):
            assert (mnt / f"lib/a:1/d{at}/f{at}").read_bytes() == b"content of %d" % at
        assert (mnt / "lib/a:1/large").read_bytes() == LARGE

    def mounted(self, *options: str | Path) -> AbstractContextManager[Path]:
        self._caches += 1
        self.server.forget()
        cache = self.directory / f"cache{self._caches}"
        return mounted(
            self.server.url, self.directory / "mnt", "--trust", self.root, "--cache", cache,
            "--fuse", self.kind, *options,
        )  # fmt: skip

    def make(self) -> list[profile.Bundle]:
        with self.mounted("--trace", self.directory / "trace") as mnt:
            self.start(mnt)
        self.publish_profile()
        tree = open_tree(self.published.store)
        ref = profile.hinted(resolve(tree, "lib/a:1").node.entry)
        assert ref is not None
        return profile.decode(tree.read(ref))

    def publish_profile(self) -> None:
        trace = self.directory / "trace"
        lazyfs("profile", "make", "lib/a:1", trace, self.published.store, "--keys", self.published.keys)

    def requests(self) -> int:
        return sum(self.server.counts().values())

    def asked(self, one: profile.Bundle) -> bool:
        return f"/{object_path(one.name)}" in self.server.counts()


@pytest.fixture
def site(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    with FaultServer(lambda _: None) as server:
        yield Site(tmp_path, server, kind)


def test_a_cold_start_with_a_profile_makes_few_requests(site: Site) -> None:
    with site.mounted() as mnt:
        site.start(mnt)
    without = site.requests()
    assert without > FILES
    bundles = site.make()
    with site.mounted() as mnt:
        os.lstat(mnt / "lib/a:1")
        until(lambda: all(map(site.asked, bundles)))
        site.start(mnt)
        # timestamp, snapshot, targets, a next root that does not exist, and two catalogs: the root's and a
        # folder's
        assert site.requests() == 4 + 2 + 1 + len(bundles)
        assert os.listxattr(mnt / "lib/a:1") == []
        with pytest.raises(OSError, match="No data"):
            os.getxattr(mnt / "lib/a:1", profile.HINT)
    with mounted(
        site.server.url, site.directory / "mnt", "--cache", site.directory / "cache3", "--fuse", site.kind
    ) as mnt:
        lazyfs("refresh", mnt)  # waits until the mount has looked for a newer revision
        site.server.forget()
        os.lstat(mnt / "lib/a:1")
        site.start(mnt)
        assert site.requests() == 0


@pytest.mark.parametrize("damage", ["missing", "truncated", "other members"])
def test_wrong_bundles_cost_time_only(site: Site, damage: str) -> None:
    bundles = site.make()
    for one in bundles:
        path = site.published.store / object_path(one.name)
        if damage == "missing":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[: one.stored // 2])
        else:
            path.write_bytes(b"LZFB" + bytes(one.stored - 4))
    with site.mounted() as mnt:
        os.lstat(mnt / "lib/a:1")
        site.start(mnt)
        assert site.asked(bundles[0])


def test_a_running_program_does_not_notice_that_its_image_gets_a_profile(site: Site) -> None:
    with site.mounted("--trace", site.directory / "trace") as mnt:
        site.start(mnt)
        place = os.open(mnt / "lib/a:1/d1", os.O_RDONLY | os.O_DIRECTORY)
        before = os.readlink(f"/proc/self/fd/{place}")
        lazyfs(
            "profile",
            "make",
            "lib/a:1",
            site.directory / "trace",
            site.published.store,
            "--keys",
            site.published.keys,
        )
        assert "new revision" in lazyfs("refresh", mnt).stdout
        assert os.readlink(f"/proc/self/fd/{place}") == before
        os.close(place)
        site.server.forget()
        site.start(mnt)
        assert site.requests() == 0
