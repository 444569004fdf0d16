"""`lazyfs profile import`, `show`, `export` and `drop`: lists of paths become profiles, and profiles become
lists."""

import json
import os
from pathlib import Path

import pytest

from lazyfs.core import profile
from lazyfs.core.digest import object_path, sha256
from lazyfs.core.params import Params
from tests.support.cli import lazyfs
from tests.support.oci_images import Built, entry, layer
from tests.support.profiled_site import LARGE, PLACE, SMALL, ProfiledSite

CHUNKS = [LARGE[at : at + (1 << 20)] for at in range(0, len(LARGE), 1 << 20)]


@pytest.fixture
def site(tmp_path: Path) -> ProfiledSite:
    return ProfiledSite(tmp_path)


def contents(site: ProfiledSite, place: str = PLACE) -> list[bytes]:
    """Returns the digests of the small files and other objects in an image's profile, in its order, without
    catalogs."""
    catalogs = {site.entry(place).content}
    return [digest for digest in site.members(place) if digest not in catalogs]


def test_a_list_of_paths_becomes_a_profile_and_comes_out_again(site: ProfiledSite, tmp_path: Path) -> None:
    store, keys = site.repository.path, site.repository.keys_path
    given = tmp_path / "list"
    given.write_text("/d/b\n/large\n/d/none\n\n/d/a\n")
    said = lazyfs("profile", "import", PLACE, given, store, "--keys", keys, "--json")
    assert "has not 1 of the paths: /d/none" in said.stderr
    assert [json.loads(said.stdout)[name] for name in ("files", "objects")] == [2, 4]
    expected = [sha256(content) for content in (SMALL["d/b"], SMALL["d/a"], *CHUNKS)]
    assert contents(site) == expected
    shown = json.loads(lazyfs("profile", "show", PLACE, store, "--json").stdout)
    (pack,) = site.packs()
    assert shown["origin"] == "imported"
    assert shown["hot_packs"] == [{"digest": pack.ref.digest.hex(), "bytes": 200, "files": 2}]
    assert [(one["path"], one["hot_packs"], one["objects"]) for one in shown["programs"]] == [("", 1, 4)]
    said = lazyfs("profile", "show", PLACE, store)
    assert "imported" in said.stdout
    assert "2 small files in 1 hot packs of 200 bytes" in said.stdout
    plain = lazyfs("profile", "export", PLACE, store).stdout
    assert plain == "/d/b\n/d/a\n/large\n"
    out = tmp_path / "out"
    lazyfs("profile", "export", PLACE, store, "--format", "cvmfs", "-o", out)
    assert json.loads(out.read_text())["dependencies"] == plain.split()
    assert "up to date" in lazyfs("profile", "import", PLACE, out, store, "--keys", keys).stdout


def test_file_bundles_inside_an_image_are_read(site: ProfiledSite) -> None:
    """Relative paths in a bundle are relative to its directory. The file for which the bundle was written
    comes first."""
    listed = {"name": "CVMFS_BUNDLE", "version": "1.0.0", "dependencies": ["../d/c", f"/{PLACE}/d/a", "/d/b"]}
    site.publish(SMALL | {"bin/run": b"program", "bin/.cvmfsbundle-run": json.dumps(listed).encode()})
    store, keys = site.repository.path, site.repository.keys_path
    lazyfs("profile", "import", PLACE, store, "--keys", keys)
    read = (b"program", SMALL["d/c"], SMALL["d/a"], SMALL["d/b"])
    assert contents(site) == [sha256(content) for content in read]


def test_links_are_followed_inside_the_image(site: ProfiledSite, tmp_path: Path) -> None:
    files = layer(
        entry("usr/lib/x.so.1", data=b"library"),
        entry("lib", b"2", linkname="usr/lib"),
        entry("usr/lib/x.so", b"2", linkname="/lib/x.so.1"),
        entry("out", b"2", linkname="../../../../../usr/lib/x.so"),
        entry("loop", b"2", linkname="loop"),
        entry("host", b"2", linkname="/etc/passwd"),
    )
    layout = Built([files]).write_layout(tmp_path / "links")
    site.repository.publish(f"oci:{layout}", place=PLACE)
    given = tmp_path / "list"
    for line in ("lib/x.so", "out", "usr/../lib/./x.so.1"):
        given.write_text(line)
        lazyfs("profile", "import", PLACE, given, site.repository.path, "--keys", site.repository.keys_path)
        assert contents(site) == [sha256(b"library")]
    given.write_text("loop\nhost\nlib/x.so/y\n")
    refused = lazyfs(
        "profile", "import", PLACE, given, site.repository.path, "--keys", site.repository.keys_path,
        check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "has no content at any of the 3 paths" in refused.stderr


def test_a_name_that_no_line_holds_is_left_out_of_a_list_and_said(site: ProfiledSite) -> None:
    site.publish({"good": b"1" * 100, "e\x1b[31mvil\n": b"2" * 100})
    site.make(b"1" * 100, b"2" * 100)
    said = lazyfs("profile", "export", PLACE, site.repository.path)
    assert said.stdout == "/good\n"
    assert "1 names left out" in said.stderr


def test_a_dropped_profiles_bytes_are_free_once_collected(tmp_path: Path) -> None:
    site = ProfiledSite(tmp_path, Params(pack_least=1, pack_target=1, keep_days=0))
    top, before = site.entry().nested, site.repository.check().objects
    site.make(SMALL["d/a"], SMALL["d/b"], *CHUNKS)
    files = [site.repository.path / object_path(pack.ref.digest) for pack in site.packs()]
    store, keys = site.repository.path, site.repository.keys_path
    assert "revision 4" in lazyfs("profile", "drop", PLACE, store, "--keys", keys).stdout
    assert "has no profile" in lazyfs("profile", "drop", PLACE, store, "--keys", keys).stdout
    assert profile.hinted(site.entry()) is None
    assert site.entry().nested == top
    refused = lazyfs("profile", "show", PLACE, store, check=False)
    assert (refused.returncode, "has no profile" in refused.stderr) == (2, True)
    assert files
    assert all(file.exists() for file in files)
    for file in (site.repository.path / "data").rglob("*/*"):
        os.utime(file, (1, 1))  # objects of the last two seconds are spared
    lazyfs("gc", store, "--keys", keys)
    assert not any(file.exists() for file in files)
    assert (site.repository.check().bad, site.repository.check().objects) == (0, before)


def test_what_is_no_image_has_no_profile_to_drop(site: ProfiledSite) -> None:
    refused = lazyfs(
        "profile", "drop", "r.example", site.repository.path, "--keys", site.repository.keys_path, check=False
    )
    assert (refused.returncode, "is no image or published tree" in refused.stderr) == (2, True)


def test_a_profile_is_made_for_a_program_and_shown_with_it(site: ProfiledSite) -> None:
    store, keys = site.repository.path, site.repository.keys_path
    for name, program in (("d/a", "/bin/one"), ("d/b", "/bin/two")):
        trace = site.trace(SMALL[name])
        lazyfs("profile", "make", PLACE, trace, store, "--keys", keys, "--program", program)
    said = lazyfs("profile", "show", PLACE, store).stdout
    assert "/bin/one: 2 objects" in said
    assert "/bin/two: 2 objects" in said
