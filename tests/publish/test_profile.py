"""`lazyfs profile`: the contents of a profile, later publishes that keep it, and what check reports about
it."""

import os
from pathlib import Path
from random import Random

import pytest

from lazyfs.core import bounds, profile
from lazyfs.core.digest import Digest, ObjectRef, object_path, ref_of, sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Params
from lazyfs.core.reach import ObjectKind, catalog_at, walk
from lazyfs.images import profiles
from lazyfs.images.profiles.publish import profiled_tree
from lazyfs.repository.diff import diff, resolve
from lazyfs.repository.edit import Edit
from tests.support.catalog_listing import open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.overtaking import overtake
from tests.support.profiled_site import LARGE, PLACE, SMALL, ProfiledSite
from tests.support.repositories import NOW


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProfiledSite:
    """Makes a site whose large file is stored with a chunk list, as files of many chunks are."""
    monkeypatch.setattr(bounds, "INLINE_CHUNKS", 1)
    return ProfiledSite(tmp_path)


def test_contents_come_as_they_were_touched_after_the_catalogs_and_lists_that_lead_to_them(
    site: ProfiledSite,
) -> None:
    chunk = LARGE[1 << 20 : 2 << 20]
    report = site.make(SMALL["d/c"], b"of another image", chunk, SMALL["d/a"], SMALL["d/c"])
    top = site.entry().nested
    large = open_tree(site.repository.path).find(f"{report.place}/large")
    assert top is not None
    assert large is not None
    contents = [sha256(content) for content in (SMALL["d/c"], SMALL["d/a"], chunk)]
    assert site.members() == [top.digest, *contents[:2], large.entry.content, contents[2]]
    assert (report.files, report.objects) == (2, 3)


@pytest.mark.parametrize("touched", [(0, 1), (1, 0), (0,), (0, 2), (0, 1, 2)])
def test_the_end_of_a_file_comes_after_all_the_rest_of_it(
    site: ProfiledSite, touched: tuple[int, ...]
) -> None:
    """The kernel's read-ahead reaches the last chunk in one start and not in the next. If a chunk before it
    is not touched, a program reads the file here and there, and the end is not added."""
    chunks = [LARGE[at : at + (1 << 20)] for at in range(0, len(LARGE), 1 << 20)]
    site.make(*(chunks[at] for at in touched), SMALL["d/a"])
    listed = [one for one in site.members() if one in set(map(sha256, chunks))]
    expected = (*touched, 2) if set(touched) == {0, 1} else touched
    assert listed == [sha256(chunks[at]) for at in expected]


@pytest.mark.parametrize("end", [300, 600_000])
def test_a_short_end_comes_after_a_single_chunk(site: ProfiledSite, end: int) -> None:
    content = os.urandom((1 << 20) + end)
    site.publish({"two": content})
    site.make(content[: 1 << 20])
    assert (sha256(content[1 << 20 :]) in site.members()) == (end == 300)


def test_hot_packs_hold_copies_of_small_files_and_of_nothing_else(tmp_path: Path) -> None:
    site = ProfiledSite(tmp_path, Params())
    report = site.make(SMALL["d/c"], LARGE[: 1 << 20], SMALL["d/a"])
    (pack,) = site.packs()
    assert (report.files, report.hot_packs, report.left_out) == (2, 1, 0)
    assert open_tree(site.repository.path).read(pack.ref) == SMALL["d/c"] + SMALL["d/a"]
    assert site.members()[-3:] == [sha256(SMALL["d/c"]), sha256(SMALL["d/a"]), sha256(LARGE[: 1 << 20])]
    assert site.repository.check().bad == 0


def test_of_a_pack_in_an_older_trace_all_files_come(tmp_path: Path) -> None:
    site = ProfiledSite(tmp_path, Params())
    site.make(b"".join(SMALL.values()))
    (pack,) = site.packs()
    assert {file.digest for file in pack.files} == {sha256(content) for content in SMALL.values()}


def test_a_profile_takes_the_stored_bytes_of_its_small_files(tmp_path: Path) -> None:
    """A profile and its hot packs take at most 1.05 times the bytes that the same small files take in
    ordinary packs. The files are like those of images: of many sizes, and halfway compressible."""
    site = ProfiledSite(tmp_path, Params())
    random = Random(1)
    words = [random.randbytes(6).hex().encode() for _ in range(500)]
    files = {
        f"d{at % 40}/f{at}": b" ".join(random.choices(words, k=random.randrange(10, 3000)))
        for at in range(1500)
    }
    site.publish(files)
    touched = random.sample(sorted(files), 800)
    site.make(*(files[path] for path in touched))
    ref = profile.hinted(site.entry())
    assert ref is not None
    written = [pack.ref.digest for pack in site.packs()] + [ref.digest]
    stored = sum((site.repository.path / object_path(digest)).stat().st_size for digest in written)
    share = sum(len(files[path]) for path in touched) / sum(map(len, files.values()))
    named = share * sum((site.repository.path / name).stat().st_size for name in ordinary_packs(site))
    assert stored <= 1.05 * named


def ordinary_packs(site: ProfiledSite) -> set[str]:
    """Returns the files of the store that hold the image's packs."""
    top = site.entry().nested
    assert top is not None
    reached = walk([catalog_at(top)], open_tree(site.repository.path).read)
    return {object_path(found.ref.digest) for found in reached if found.kind is ObjectKind.PACK}


@pytest.mark.parametrize(
    ("limit", "value", "left_out"),
    [("MOST", 3 << 20, 1), ("bounds.PROFILE_OBJECTS", 4, 1), ("bounds.HOT_FILES", 3, 1)],
)
def test_nothing_is_written_that_readers_refuse(
    site: ProfiledSite, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, left_out: int
) -> None:
    monkeypatch.setattr(f"lazyfs.images.profiles.hot_packs.{limit}", value)
    chunks = [LARGE[at : at + (1 << 20)] for at in range(0, len(LARGE), 1 << 20)]
    report = site.make(*SMALL.values(), *chunks)
    assert (len(site.members()), report.left_out) == (9 - left_out, left_out)
    assert site.repository.check().bad == 0


def test_programs_are_kept_apart_and_share_what_both_read(tmp_path: Path) -> None:
    site = ProfiledSite(tmp_path, Params())
    files = {name: Random(name).randbytes(200_000) for name in "abc"}
    site.publish(files)
    site.make(files["a"], files["b"], program="/bin/one")
    site.make(files["b"], files["c"], LARGE[: 1 << 20], program="/bin/two")

    def read_by(program: str) -> dict[ObjectRef, set[Digest]]:
        found = site.listed()
        assert found is not None
        hot = {pack.ref: {file.digest for file in pack.files} for pack in found.packs}
        return {ref: hot[ref] for ref in found.of(program) if ref in hot}

    one, two = read_by("one"), read_by("/bin/two")
    assert [one[ref] for ref in one.keys() & two.keys()] == [{sha256(files["b"])}]
    assert set().union(*one.values()) == {sha256(files["a"]), sha256(files["b"])}
    assert set().union(*two.values()) == {sha256(files["b"]), sha256(files["c"])}
    assert read_by("").keys() == one.keys() | two.keys()

    site.make(files["c"], program="/bin/one")
    assert set().union(*read_by("one").values()) == {sha256(files["c"])}
    assert set().union(*read_by("two").values()) == {sha256(files["b"]), sha256(files["c"])}
    site.make(files["a"])
    assert set().union(*read_by("two").values()) == {sha256(files["a"])}, "of an unknown program: for all"


def test_an_image_published_again_keeps_its_profile_and_one_that_inherits_none_has_none(
    site: ProfiledSite,
) -> None:
    site.make(SMALL["d/a"])
    kept = site.plain()
    assert kept
    assert not site.publish(SMALL | {"large": LARGE})
    assert site.plain() == kept
    site.publish(SMALL | {"large": LARGE}, place="r.example/app:same")
    assert profile.hinted(site.entry("r.example/app:same")) is not None
    site.publish(SMALL, inherit_profiles=False)
    assert site.packs() == []


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


def test_check_reads_profiles_and_hot_packs(tmp_path: Path) -> None:
    site = ProfiledSite(tmp_path, Params())
    before = site.repository.check().objects
    site.make(SMALL["d/a"], SMALL["d/c"])
    findings = site.repository.check()
    assert (findings.bad, findings.objects) == (0, before + 2)
    (pack,) = site.packs()
    file = site.repository.path / object_path(pack.ref.digest)
    good = file.read_bytes()
    for damaged in (good[:-1], good + b"x", good[:-1] + bytes([good[-1] ^ 1])):
        file.write_bytes(damaged)
        assert [line.split()[1] for line in site.repository.check().problems] == ["pack"]
    file.unlink()
    assert site.repository.check().bad == 1


def test_check_says_which_files_of_a_hot_pack_are_not_what_the_profile_says(tmp_path: Path) -> None:
    site = ProfiledSite(tmp_path, Params())
    files = tuple(ref_of(content) for content in (b"right", b"wrong"))
    with Edit(site.repository.store, site.repository.keys, lambda: NOW) as edit:
        pack = profile.HotPack(edit.ingest.put(b"rightWRONG"), files)
        programs = (profile.Program("", (pack.ref,)),)
        made = profile.encode(profile.Profile(profile.Origin.RECORDED, (pack,), programs))
        found, top = profiled_tree(edit.tree, PLACE)
        edit.hint(found.path, top, profile.hint(edit.ingest.put(made)))
        edit.commit()
    (problem,) = site.repository.check().problems
    assert "bytes 5 to 10 hash to" in problem


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
    assert site.packs() == []
