"""`lazyfs profile`: the contents of a profile, later publishes that keep it, and what check reports about
it."""

import os
from pathlib import Path

import pytest

from lazyfs.core import bounds, bundle, profile
from lazyfs.core.digest import object_path, sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Params
from lazyfs.images import profiles
from lazyfs.images.profiles import bundles
from lazyfs.repository.diff import diff, resolve
from tests.support.catalog_listing import open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.overtaking import overtake
from tests.support.profiled_site import LARGE, PLACE, SMALL, ProfiledSite


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProfiledSite:
    """Makes a site whose large file is stored with a chunk list, as files of many chunks are."""
    monkeypatch.setattr(bounds, "INLINE_CHUNKS", 1)
    return ProfiledSite(tmp_path)


def test_catalogs_and_lists_come_first_then_contents_as_they_were_touched(site: ProfiledSite) -> None:
    chunk = LARGE[1 << 20 : 2 << 20]
    report = site.make(SMALL["d/c"], b"of another image", chunk, SMALL["d/a"], SMALL["d/c"])
    top = site.entry().nested
    large = open_tree(site.repository.path).find(f"{report.place}/large")
    assert top is not None
    assert large is not None
    contents = [sha256(content) for content in (SMALL["d/c"], chunk, SMALL["d/a"])]
    assert site.members() == [top.digest, large.entry.content, *contents]
    assert report.objects == 5
    for one in site.bundles():
        stored = (site.repository.path / object_path(one.name)).read_bytes()
        assert len(stored) == one.stored
        reader = bundle.Reader(one.name)
        assert [ref for ref, _ in reader.feed(stored)] == list(one.members)
        reader.finish()


def test_packs_are_members_like_any_object(tmp_path: Path) -> None:
    site = ProfiledSite(tmp_path, Params())
    pack = b"".join(SMALL.values())
    report = site.make(pack, LARGE[: 1 << 20], pack)
    assert site.members()[-2:] == [sha256(pack), sha256(LARGE[: 1 << 20])]
    assert report.left_out == 0
    assert site.repository.check().bad == 0


def test_bundles_grow_to_their_largest(site: ProfiledSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "FIRST", 1000)
    monkeypatch.setattr(bundles, "LARGEST", 4000)
    files = {f"f{number:02}": os.urandom(500) for number in range(40)}
    site.publish(files)
    site.make(*files.values())
    sizes = [one.stored for one in site.bundles()]
    assert len(sizes) >= 5
    assert sizes[0] < 2500
    assert max(sizes) < 6000
    assert sizes[2] > sizes[1] > 1000


@pytest.mark.parametrize(
    ("limit", "value", "left_out"),
    [("profile.MAX_STORED", 1 << 20, 3), ("profile.MAX_SIZE", 48 * 6, 3), ("bundle.MAX_MEMBERS", 4, 0)],
)
def test_nothing_is_written_that_readers_refuse(
    site: ProfiledSite, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, left_out: int
) -> None:
    monkeypatch.setattr(f"lazyfs.core.{limit}", value)
    chunks = [LARGE[at : at + (1 << 20)] for at in range(0, len(LARGE), 1 << 20)]
    report = site.make(*SMALL.values(), *chunks)
    assert (len(site.members()), report.left_out) == (9 - left_out, left_out)
    assert site.repository.check().bad == 0


def test_an_image_published_again_keeps_its_profile_and_one_that_inherits_none_has_none(
    site: ProfiledSite,
) -> None:
    site.make(SMALL["d/a"])
    kept = site.bundles()
    assert kept
    assert not site.publish(SMALL | {"large": LARGE})
    assert site.bundles() == kept
    site.publish(SMALL | {"large": LARGE}, place="r.example/app:same")
    assert profile.hinted(site.entry("r.example/app:same")) is not None
    site.publish(SMALL, inherit_profiles=False)
    assert site.bundles() == []


def test_the_same_profile_again_is_no_new_revision_and_another_replaces_it(site: ProfiledSite) -> None:
    first = site.make(SMALL["d/a"])
    again = site.make(SMALL["d/a"])
    assert (first.changed, again.changed) == (True, False)
    assert again.revision == first.revision
    site.make(SMALL["d/b"])
    assert sha256(SMALL["d/a"]) not in site.members()


def test_a_profile_that_is_overtaken_keeps_the_other_revision_too(
    site: ProfiledSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtake(monkeypatch, lambda: site.publish({"f": b"other"}, place="r.example/other:1"))
    report = site.make(SMALL["d/a"])
    assert (report.changed, report.revision.number) == (True, 4)
    assert sha256(SMALL["d/a"]) in site.members()
    assert open_tree(site.repository.path).find("r.example/other:1")
    assert site.repository.check().bad == 0


def test_a_profile_of_a_tree_that_was_replaced_meanwhile_is_refused(
    site: ProfiledSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"old", b"new"):
        (site.directory / content.decode()).mkdir()
        (site.directory / content.decode() / "f").write_bytes(content)
    site.repository.publish(f"dir:{site.directory}/old", place="software/1")
    new = f"dir:{site.directory}/new"
    overtake(monkeypatch, lambda: site.repository.publish(new, place="software/1"))
    with pytest.raises(UsageError, match="software/1 was published anew meanwhile"):
        site.make(b"old", image="software/1")
    assert profile.hinted(site.entry("software/1")) is None
    assert open_tree(site.repository.path).file("software/1/f") == b"new"


def test_a_profile_is_no_difference(site: ProfiledSite) -> None:
    before = open_tree(site.repository.path)
    site.make(SMALL["d/a"])
    old, new = resolve(before, PLACE), resolve(open_tree(site.repository.path), PLACE)
    assert new.node.entry != old.node.entry
    assert list(diff(old, new)) == []


def test_a_files_own_attribute_of_that_name_is_a_difference(site: ProfiledSite) -> None:
    sides = []
    for value in ("one", "other"):
        pax = {f"SCHILY.xattr.{profile.HINT.decode()}": value}
        layout = Built([layer(entry("f", data=b"x", pax=pax))]).write_layout(site.directory / value)
        site.repository.publish(f"oci:{layout}", place=PLACE)
        sides.append(resolve(open_tree(site.repository.path), PLACE))
    assert [(change.path, change.fields) for change in diff(*sides)] == [(b"f", ("xattrs",))]


def test_check_reads_profiles_and_bundles(site: ProfiledSite) -> None:
    before = site.repository.check().objects
    site.make(SMALL["d/a"])
    findings = site.repository.check()
    assert (findings.bad, findings.objects) == (0, before + 2)
    (one,) = site.bundles()
    file = site.repository.path / object_path(one.name)
    good = file.read_bytes()
    for damaged in (good[:-1], good + b"x", good[:-1] + bytes([good[-1] ^ 1])):
        file.write_bytes(damaged)
        assert [line.split()[1] for line in site.repository.check().problems] == ["bundle"]
    file.unlink()
    assert site.repository.check().bad == 1


def test_a_damaged_object_is_not_spread(site: ProfiledSite) -> None:
    file = site.repository.path / object_path(sha256(SMALL["d/a"]))
    file.write_bytes(b"damaged")
    before = site.repository.files()
    with pytest.raises(Exception, match="not a zstd frame"):
        site.make(SMALL["d/a"])
    assert site.repository.files() == before


def test_what_cannot_be_profiled_is_said(site: ProfiledSite, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not in this revision"):
        site.make(SMALL["d/a"], image="r.example/other:1")
    with pytest.raises(UsageError, match="is no image or published tree"):
        site.make(SMALL["d/a"], image="r.example")
    with pytest.raises(UsageError, match="touched nothing of"):
        site.make(b"something else")
    (tmp_path / "odd").write_text("[1, 2]\n")
    with pytest.raises(UsageError, match="line 1 is no line of a trace"):
        profiles.read_traces([str(tmp_path / "odd")])
    with pytest.raises(UsageError, match="No such file"):
        profiles.read_traces([str(tmp_path / "none")])


def test_an_image_cannot_bring_its_own(site: ProfiledSite) -> None:
    """A layer may contain an extended attribute with the name of a profile hint. It is not published, because
    a hint in a catalog counts as signed by the publisher."""
    pax = {f"SCHILY.xattr.{profile.HINT.decode()}": "a" * 40}
    root = entry("./", kind=b"5", pax=pax)
    layout = Built([layer(root, entry("f", data=b"x"))]).write_layout(site.directory / "sly")
    site.repository.publish(f"oci:{layout}", place=PLACE)
    assert site.bundles() == []
