"""A cold start with a profile: it makes few requests. Wrong hot packs do no harm."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lazyfs.client.unused_window import FREE
from lazyfs.core import profile
from lazyfs.core.codec import encode
from lazyfs.core.digest import ObjectRef, object_path, ref_of, sha256
from lazyfs.images.profiles.publish import profiled_tree
from lazyfs.repository import keys
from lazyfs.repository.diff import resolve
from lazyfs.repository.edit import Edit
from lazyfs.store import open_store
from tests.support.catalog_listing import open_tree
from tests.support.cli import lazyfs, mounted
from tests.support.fault_server import FaultServer, of_directory
from tests.support.images import file, image, live, packed
from tests.support.repository import Published
from tests.support.store_files import store_object
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
        folders = {f"d{at}": packed(objects, {f"f{at}": b"content of %d" % at}) for at in range(FILES)}
        one = image(objects, {**folders, "large": file(objects, LARGE, shift=17)})
        self.published.commit(live(objects, {"lib": {"a:1": one}}))
        server.content = of_directory(self.published.store)
        self.caches = 0

    @property
    def root(self) -> Path:
        return self.published.store / "metadata/1.root.json"

    def start(self, mnt: Path) -> None:
        """Reads all files of the image, as the profiled program does."""
        for at in range(FILES):
            assert (mnt / f"lib/a:1/d{at}/f{at}").read_bytes() == b"content of %d" % at
        assert (mnt / "lib/a:1/large").read_bytes() == LARGE

    def mounted(self, *options: str | Path) -> AbstractContextManager[Path]:
        self.caches += 1
        self.server.forget()
        cache = self.directory / f"cache{self.caches}"
        return mounted(
            self.server.url, self.directory / "mnt", "--trust", self.root, "--cache", cache,
            "--fuse", self.kind, *options,
        )  # fmt: skip

    def make(self) -> profile.Profile:
        with self.mounted("--trace", self.directory / "trace") as mnt:
            self.start(mnt)
        self.publish_profile()
        return self.listed()

    def listed(self) -> profile.Profile:
        """Returns the profile that the image has."""
        tree = open_tree(self.published.store)
        ref = profile.hinted(resolve(tree, "lib/a:1").node.entry)
        assert ref is not None
        return profile.decode(tree.read(ref))

    def publish_profile(self) -> None:
        trace = self.directory / "trace"
        lazyfs("profile", "make", "lib/a:1", trace, self.published.store, "--keys", self.published.keys)

    def publish_lie(self, made: profile.Profile) -> None:
        """Gives the image this profile, whatever it says."""
        store = open_store(str(self.published.store))
        with Edit(store, keys.load(str(self.published.keys)), lambda: datetime.now(UTC)) as edit:
            found, top = profiled_tree(edit.tree, "lib/a:1")
            edit.hint(found.path, top, profile.hint(edit.ingest.put(profile.encode(made))))
            edit.commit()

    def requests(self) -> int:
        return sum(self.server.counts().values())

    def asked(self, ref: ObjectRef) -> bool:
        return f"/{object_path(ref.digest)}" in self.server.counts()


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
    made = site.make()
    assert len(made.listed()) == 1
    with site.mounted() as mnt:
        os.lstat(mnt / "lib/a:1")
        until(lambda: all(map(site.asked, made.of())))
        site.start(mnt)
        # timestamp, snapshot, targets, a next root that does not exist, and two catalogs: the root's and a
        # folder's
        assert site.requests() == 4 + 2 + 1 + len(made.of())
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
def test_wrong_hot_packs_cost_time_only(site: Site, damage: str) -> None:
    packs = site.make().listed()
    for pack in packs:
        path = site.published.store / object_path(pack.ref.digest)
        if damage == "missing":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[: pack.ref.size // 2])
        else:
            path.write_bytes(encode(bytes(pack.ref.size)))
    with site.mounted() as mnt:
        os.lstat(mnt / "lib/a:1")
        site.start(mnt)
        assert site.asked(packs[0].ref)


@pytest.mark.parametrize("lie", ["places", "files of another image", "sizes", "a short last one"])
def test_a_profile_that_lies_gives_no_wrong_byte(site: Site, lie: str) -> None:
    """The hot pack is intact, but the profile's list of the files in it is wrong."""
    made = site.make()
    (pack,) = made.listed()
    files = list(pack.files)
    if lie == "places":
        files = sorted(files, key=lambda one: one.digest)
    elif lie == "sizes":
        first, second = files[0], files[1]
        files[:2] = [
            ObjectRef(first.digest, first.size + 1), ObjectRef(second.digest, second.size - 1),
        ]  # fmt: skip
    elif lie == "a short last one":  # regression: its reader was led to the hot pack again, until EIO
        first, last = files[0], files[-1]
        files[0] = ObjectRef(first.digest, first.size + last.size - 1)
        files[-1] = ObjectRef(last.digest, 1)
    else:
        files = [ObjectRef(sha256(file.digest), file.size) for file in files]
    wrong = profile.HotPack(pack.ref, tuple(files))
    site.publish_lie(profile.Profile(made.origin, (wrong,), made.programs))
    with site.mounted() as mnt:
        os.lstat(mnt / "lib/a:1")
        until(lambda: site.asked(pack.ref))
        site.start(mnt)


@pytest.mark.parametrize("hot", [False, True])
def test_a_hostile_profile_costs_two_megabytes(site: Site, *, hot: bool) -> None:
    """The profile lists 10 MB that the image has nothing of: as objects, or as hot packs that are said to
    hold its files. The files are read meanwhile."""
    size = 250_000
    junk = [store_object(site.published.store, os.urandom(size)) for _ in range(40)]
    packs = []
    for at, ref in enumerate(junk if hot else []):
        file = ref_of(b"content of %d" % at)
        packs.append(profile.HotPack(ref, (file, ObjectRef(ref.digest, size - file.size))))
    program = profile.Program("", tuple(junk))
    site.publish_lie(profile.Profile(profile.Origin.RECORDED, tuple(packs), (program,)))
    with site.mounted() as mnt:
        os.lstat(mnt / "lib/a:1")
        until(lambda: sum(map(site.asked, junk)) == FREE // size)
        site.start(mnt)
        os.lstat(mnt / "lib/a:1")
    assert sum(map(site.asked, junk)) == FREE // size


def test_a_warm_start_reads_hot_packs_with_every_server_dead(site: Site) -> None:
    """In the first mount, the files were read from hot packs, and their own packs were never fetched. So the
    new mount must know where the copies in the hot packs are before the first read."""
    site.make()
    with site.mounted() as mnt:
        os.lstat(mnt / "lib/a:1")
        site.start(mnt)
    site.server.content = lambda _: None
    cache = site.directory / f"cache{site.caches}"
    with mounted(site.server.url, site.directory / "mnt", "--cache", cache, "--fuse", site.kind) as mnt:
        site.start(mnt)


def test_lazyfs_run_says_which_program_it_starts(site: Site) -> None:
    """The image's profile lists the large file for program `one`, and the small files for program `two`.
    `lazyfs run` of `one` prefetches no object that is listed only for `two`."""
    with site.mounted("--trace", site.directory / "trace") as mnt:
        site.start(mnt)
    lines = [json.loads(line) for line in (site.directory / "trace").read_text().splitlines()]
    for name, large in (("one", True), ("two", False)):
        trace = site.directory / f"trace-{name}"
        read = [line for line in lines if line[1] == "read" and line[2].endswith("large") == large]
        trace.write_text("".join(json.dumps(line) + "\n" for line in read))
        lazyfs(
            "profile", "make", "lib/a:1", trace, site.published.store, "--keys", site.published.keys,
            "--program", f"/bin/{name}",
        )  # fmt: skip
    made = site.listed()
    one, two = set(made.of("one")), set(made.of("two"))
    assert one - two
    assert two - one
    with site.mounted() as mnt:
        lazyfs("run", str(mnt / "lib/a:1"), "--", "/bin/one", check=False)
        until(lambda: all(map(site.asked, one)))
        assert not any(map(site.asked, two - one))


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
