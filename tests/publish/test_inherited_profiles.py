"""A new tag inherits the profile of its repository's last tag. The effect is counted on an image like those
of analyses."""

import random
from pathlib import Path

import pytest

from lazyfs.core import profile
from lazyfs.core.digest import Digest, ObjectRef, object_path, sha256
from lazyfs.core.hot_packs import CutLimits
from lazyfs.core.params import Params
from lazyfs.core.profile import Origin, total
from lazyfs.images.observer import PublishObserver
from lazyfs.images.profiles import publish_profile
from lazyfs.images.profiles.image_files import ImageFiles
from lazyfs.prefetch.profile_schedule import HERE
from tests.support.catalog_listing import open_tree
from tests.support.counts import count
from tests.support.oci_images import Built, entry, layer
from tests.support.profiled_site import LARGE, PLACE, SMALL, ProfiledSite
from tests.support.repositories import NOW

NEXT = "r.example/app:2"
SCALE = count(16, 1)
"""The factor by which the test's files, packs and chunks are smaller than real ones."""
PACKS = Params(
    pack_files=Params().pack_files // SCALE,
    pack_least=Params().pack_least // SCALE,
    pack_target=Params().pack_target // SCALE,
    pack_most=Params().pack_most // SCALE,
    chunk_shift=Params().chunk_shift - SCALE.bit_length() + 1,
)
Files = dict[str, bytes]


class Analysis:
    """An image with a base layer and a layer of 60 packages. A program reads some of the base, and most files
    of 18 packages."""

    def __init__(self, site: ProfiledSite) -> None:
        self.site = site
        self.random = random.Random(1)
        self.base = {f"usr/lib/base{at}/f{at}": self.content() for at in range(200)}
        self.packages: Files = {}
        names = [first + second for first in "abcdefghij" for second in "klmnop"]
        for name in names:
            for at in range(20):
                self.packages[f"opt/{name}-1.2/m{at}.py"] = self.content()
            self.packages[f"opt/{name}-1.2/_lib.so"] = self.random.randbytes(3_200_000 // SCALE)
        self.packages = dict(sorted(self.packages.items()))
        used = self.random.sample(names, 18)
        self.touched = [
            path
            for path in [*self.base, *self.packages]
            if (path in self.base and self.random.random() < 0.3)
            or (path.split("/")[1].split("-")[0] in used and self.random.random() < 0.8)
        ]

    def content(self) -> bytes:
        size = int(self.random.paretovariate(1.2) * 1000) % 30_000 + 50
        return self.random.randbytes(size * 16 // SCALE)

    def publish(self, place: str = PLACE) -> None:
        self.site.publish(self.base, self.packages, place=place)

    def record(self, place: str = PLACE) -> None:
        """Publishes a profile of a start of the image."""
        touched = {"": [ref.digest for ref in self.contents(place)]}
        publish_profile(self.site.repository.store, self.site.repository.keys, place, touched, lambda: NOW)

    def contents(self, place: str) -> dict[ObjectRef, None]:
        """Returns the small files and chunks that the program reads, in the order of its reads."""
        top = self.site.entry(place).nested
        assert top is not None
        files = ImageFiles(open_tree(self.site.repository.path), top)
        found: dict[ObjectRef, None] = {}
        for path in self.touched:
            file = files.find(path.encode())
            assert file is not None, path
            found.update(dict.fromkeys(part.ref for part in files.parts(file)))
        return found

    def upgrade(self, share: float, moved: int = 5, removed: int = 3) -> None:
        """Gives the files of some packages new content, until this share of the touched files has changed.
        Every second package also gets a new version in its directory's name. Moves and removes some other
        files."""
        touched = [path for path in self.touched if path in self.packages]
        changed: set[str] = set()
        packages = sorted({path.rsplit("/", 1)[0] for path in touched})
        for package in self.random.sample(packages, len(packages)):
            if len(changed) >= share * len(self.touched):
                break
            renamed = package + ".9" if len(changed) % 2 else package
            for path in [one for one in self.packages if one.startswith(package + "/")]:
                self.replace(path, renamed + path.removeprefix(package), changed)
        others = [path for path in touched if path not in changed and path in self.touched]
        for path in self.random.sample(others, moved):
            self.packages[f"opt/moved/{path.replace('/', '_')}"] = self.packages.pop(path)
            self.touched[self.touched.index(path)] = f"opt/moved/{path.replace('/', '_')}"
        for path in self.random.sample([one for one in others if one in self.packages], removed):
            del self.packages[path]
            self.touched.remove(path)

    def replace(self, path: str, new: str, changed: set[str]) -> None:
        """Gives a file new content and the path `new`. Keeps the layer sorted by name. Adds `new` to
        `changed` if the program reads the file."""
        size = len(self.packages.pop(path))
        self.packages[new] = self.random.randbytes(size + 7)
        self.packages = dict(sorted(self.packages.items()))
        if path in self.touched:
            self.touched[self.touched.index(path)] = new
            changed.add(new)


@pytest.fixture
def analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Analysis:
    smaller = CutLimits(*(size // SCALE for size in CutLimits()))
    monkeypatch.setattr("lazyfs.images.profiles.hot_packs.LIMITS", smaller)
    made = Analysis(ProfiledSite(tmp_path, PACKS))
    made.publish()
    made.record()
    return made


def stored(site: ProfiledSite, digests: set[Digest]) -> int:
    """Returns the total size of these objects in the store, in bytes."""
    return sum((site.repository.path / object_path(digest)).stat().st_size for digest in digests)


def listed(site: ProfiledSite, place: str) -> set[Digest]:
    """Returns the objects that a worker fetches for the profile of an image."""
    found = site.listed(place)
    assert found is not None
    return {ref.digest for ref in found.of()}


def origin(site: ProfiledSite, place: str) -> Origin | None:
    found = site.listed(place)
    return None if found is None else found.origin


def test_four_fifths_of_what_a_new_tag_touches_come_ahead(analysis: Analysis) -> None:
    """20% of the touched files have new content, half of them also a new path, and some others have moved. A
    worker with an empty cache fetches little more than with a profile recorded for the new tag. A worker that
    has what the old tag's profile lists fetches little more than what has changed."""
    site = analysis.site
    before, here = set(site.members()), listed(site, PLACE)
    analysis.upgrade(0.2)
    analysis.publish(NEXT)
    assert origin(site, NEXT) is Origin.INHERITED
    touched = analysis.contents(NEXT)
    changed = [ref for ref in touched if ref.digest not in before]
    assert len(changed) >= 0.2 * len(touched)
    members = set(site.members(NEXT))
    assert sum(ref.digest in members for ref in touched) >= 0.9 * len(touched)
    assert total(missing(site, NEXT, here)) <= 1.3 * total(changed)
    cold = stored(site, listed(site, NEXT))
    analysis.record(NEXT)
    assert cold <= 1.3 * stored(site, listed(site, NEXT))
    assert site.repository.check().bad == 0


def missing(site: ProfiledSite, place: str, here: set[Digest]) -> list[ObjectRef]:
    """Returns the objects of an image's profile that a worker must still fetch if it has the objects `here`.
    Like `prefetch.profiles`, it skips a hot pack if most of its bytes are in hot packs of `here`."""
    found = site.listed(place)
    assert found is not None
    held = {file.digest for pack in found.packs if pack.ref.digest in here for file in pack.files}
    files = {pack.ref: pack.files for pack in found.packs}
    return [
        ref
        for ref in found.of()
        if ref.digest not in here
        and (ref not in files or total(file for file in files[ref] if file.digest in held) < HERE * ref.size)
    ]


@pytest.mark.timeout(count(120, 900))
def test_ten_nights_profiles_take_twice_ones_bytes_beside_what_changed(analysis: Analysis) -> None:
    site = analysis.site

    def written(place: str) -> set[Digest]:
        ref = profile.hinted(site.entry(place))
        assert ref is not None
        return {ref.digest, *(pack.ref.digest for pack in site.packs(place))}

    ours = written(PLACE)
    first, contents, changed = stored(site, ours), set(site.members()), 0
    for night in range(2, 11):
        analysis.upgrade(0.03, moved=1, removed=0)
        place = f"r.example/app:{night}"
        analysis.publish(place)
        found = site.listed(place)
        assert found is not None
        new = [ref for ref in found.contents() if ref.digest not in contents]
        assert new
        changed += total(new)
        contents |= {ref.digest for ref in new}
        ours |= written(place)
    assert stored(site, ours) <= 2 * first + changed
    assert len(site.packs(place)) <= 3 * len(site.packs())


@pytest.fixture
def site(tmp_path: Path) -> ProfiledSite:
    site = ProfiledSite(tmp_path)
    site.make(SMALL["d/a"])
    return site


def test_the_name_itself_is_inherited_from_before_newer_tags(site: ProfiledSite) -> None:
    site.publish(SMALL | {"new": b"1"}, place="r.example/app:other")
    site.make(SMALL["d/b"], image="r.example/app:other")
    site.publish(SMALL | {"new": b"2"})
    assert origin(site, PLACE) is Origin.INHERITED
    assert sha256(SMALL["d/a"]) in site.members()
    assert sha256(SMALL["d/b"]) not in site.members()


def test_of_other_tags_the_newest_image_is_inherited_from_and_no_other_repository(site: ProfiledSite) -> None:
    for tag, created in (("old", "2020-01-01T00:00:00Z"), ("new", "2026-01-01T00:00:00Z")):
        files = layer(*(entry(path, data=data) for path, data in (SMALL | {tag: b"x"}).items()))
        layout = Built([files], created=created).write_layout(site.directory / tag)
        site.repository.publish(f"oci:{layout}", place=f"r.example/app:{tag}")
        content = SMALL["d/b"] if tag == "new" else SMALL["d/c"]
        site.make(content, image=f"r.example/app:{tag}")
    site.publish(SMALL | {"next": b"1"}, place="r.example/app:next")
    assert sha256(SMALL["d/b"]) in site.members("r.example/app:next")
    assert sha256(SMALL["d/c"]) not in site.members("r.example/app:next")
    site.publish(SMALL | {"next": b"2"}, place="r.example/application:1")
    assert origin(site, "r.example/application:1") is None


def test_an_inherited_profile_is_inherited_again_and_a_recorded_one_replaces_it(site: ProfiledSite) -> None:
    for number in range(3):
        site.publish(SMALL | {"new": b"%d" % number})
        assert origin(site, PLACE) is Origin.INHERITED
        assert sha256(SMALL["d/a"]) in site.members()
    site.make(SMALL["d/c"])
    assert origin(site, PLACE) is Origin.RECORDED
    assert sha256(SMALL["d/a"]) not in site.members()


def test_an_image_published_again_keeps_its_own_whatever_other_tags_have(site: ProfiledSite) -> None:
    kept = site.plain()
    site.publish(SMALL | {"new": b"1"}, place="r.example/app:other")
    site.make(SMALL["d/b"], image="r.example/app:other")
    site.publish(SMALL | {"large": LARGE}, place="r.example/app:again")
    assert site.plain() == site.plain("r.example/app:again") == kept


def test_the_images_own_catalogs_are_the_same_with_and_without(site: ProfiledSite, tmp_path: Path) -> None:
    new = SMALL | {"new": b"1"}
    site.publish(new, inherit_profiles=False)
    assert origin(site, PLACE) is None
    top = site.entry().nested
    (tmp_path / "other").mkdir()
    other = ProfiledSite(tmp_path / "other")
    other.make(SMALL["d/a"])
    other.publish(new)
    assert origin(other, PLACE) is Origin.INHERITED
    assert other.entry().nested == top


def test_a_published_tree_inherits_from_what_hung_at_its_path(site: ProfiledSite) -> None:
    for content in (b"old", b"new"):
        folder = site.directory / content.decode()
        folder.mkdir()
        (folder / "f").write_bytes(content)
    site.repository.publish(f"dir:{site.directory}/old", place="software/1")
    site.make(b"old", image="software/1")
    site.repository.publish(f"dir:{site.directory}/new", place="software/1")
    assert origin(site, "software/1") is Origin.INHERITED
    assert sha256(b"new") in site.members("software/1")


@pytest.mark.parametrize("lost", ["profile", "catalog", "pack"])
def test_a_damaged_older_image_costs_the_profile_only(site: ProfiledSite, lost: str) -> None:
    """`lost` is the part of the old image that is damaged. For `pack`, this is the pack of a file that the
    old profile names and the new image still has."""
    site.make(SMALL["d/b"], SMALL["d/c"])
    found = {
        "profile": profile.hinted(site.entry()),
        "catalog": site.entry().nested,
        "pack": ObjectRef(sha256(SMALL["d/c"]), 0),
    }[lost]
    assert found is not None
    file = site.repository.path / object_path(found.digest)
    file.write_bytes(b"damaged")
    said: list[str] = []

    class Observer(PublishObserver):
        def warn(self, message: str) -> None:
            said.append(message)

    assert site.publish(SMALL | {"d/b": b"1"}, observer=Observer())
    assert origin(site, PLACE) is None
    assert [line for line in said if line.startswith(f"{PLACE} is published without a profile: ")]
