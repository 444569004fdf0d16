"""An image that is exported and published again has the same tree, in each of the five forms."""

import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck as Check
from hypothesis import assume, given, settings

from lazyfs.core.errors import FormatError
from lazyfs.core.params import Params
from lazyfs.images.exports.export import FORMS
from lazyfs.repository.diff import resolve
from tests.support.catalog_listing import Listed, open_tree
from tests.support.counts import count
from tests.support.drawn_layers import stacks
from tests.support.exporting import PLACE, export_image
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

SECOND = 1_000_000_000
LATEST = (1 << 32) - 1
Seen = dict[bytes, tuple[object, ...]]

ODD_NAMES = (
    *"uvwxyz",
    "new\nline",
    " lead",
    "trail ",
    '"q"',
    "\\back",
    "\udcff\udcfe",
    "é",
    "n" * 255,
    "a=b",
    "-r",
)
SMALL_CATALOGS = Params(catalog_entries=16)
"""With catalogs this small, some hardlinks lead from one catalog to another, and one catalog is mounted at
two paths."""
LOWER = [
    entry("./", tarfile.DIRTYPE, mode=0o1711, uid=5, gid=6, mtime=77, pax={"SCHILY.xattr.user.top": "r"}),
    entry("odd", tarfile.DIRTYPE, mode=0o2755, uid=70_000, gid=3_000_000_000),
    *(entry(f"odd/{name}", data=name.encode("utf-8", "surrogateescape")[:9]) for name in ODD_NAMES),
    entry("/".join(["d" * 200] * 5) + "/deep", data=b"deep"),
    entry("large", data=os.urandom(1 << 16) * 36),
    entry("zeros", data=bytes(5 << 20)),
    entry("empty"),
    entry("times", data=b"t", pax={"mtime": "1234567890.123456789"}),
    entry("early", data=b"t", pax={"mtime": "-1.25"}),
    entry("late", data=b"t", pax={"mtime": "5000000000"}),
    entry(
        "first",
        data=b"linked",
        mode=0o4755,
        uid=4_294_967_294,
        pax={"SCHILY.xattr.user.raw": "\udc80\n=\0", "SCHILY.xattr.trusted.t": "q"},
    ),
    entry("odd/second", tarfile.LNKTYPE, linkname="first", mode=0o4755),
    entry("link", tarfile.SYMTYPE, linkname="../\udcfe x\n" + "t" * 300),
    entry("odd/link", tarfile.LNKTYPE, linkname="link"),
    entry("device", tarfile.CHRTYPE, devmajor=5, devminor=1, mode=0o600),
    entry("odd/device", tarfile.LNKTYPE, linkname="device"),
    *(entry(f"twins/{twin}/{n}", data=b"%d" % n) for twin in "ab" for n in range(16)),
    *(entry(f"twins/{twin}/link", tarfile.LNKTYPE, linkname=f"twins/{twin}/1") for twin in "ab"),
    entry("block", tarfile.BLKTYPE, devmajor=259, devminor=70_000),
    entry("pipe", tarfile.FIFOTYPE),
]
UPPER = [
    entry("odd/third", tarfile.LNKTYPE, linkname="first", mode=0o4755),
    entry(".wh.empty"),
    entry("odd/.wh. lead"),
    entry("made/.wh..wh..opq"),
    entry("made/here", data=b"here"),
]


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """Yields a repository whose image has everything that an export can easily lose: odd names, attributes,
    times, hardlinks and devices."""
    directory = tmp_path_factory.mktemp("hard")
    repository = Repository(directory, SMALL_CATALOGS)
    layout = Built([layer(*LOWER), layer(*UPPER)]).write_layout(directory / "layout")
    repository.publish(f"oci:{layout}", place=PLACE)
    yield repository
    shutil.rmtree(directory)


def seen(repository: Repository, place: str, *, seconds: bool) -> tuple[Seen, set[frozenset[bytes]]]:
    """Returns (path -> attributes and content, the groups of hardlinks) of the tree at a place. With
    `seconds`, times are clamped and cut to whole seconds, as in squashfs."""
    tree = open_tree(repository.path)
    listed = Listed(tree, resolve(tree, place).path)
    digests = listed.digests()
    found: Seen = {}
    for path, one in [(b"", listed.root), *listed.entries.items()]:
        mtime = min(max(one.mtime // SECOND, 0), LATEST) * SECOND if seconds else one.mtime
        content: object = digests.get(path)
        if one.is_link:
            content = one.content
        elif stat.S_ISCHR(one.mode) or stat.S_ISBLK(one.mode):
            content = one.detail
        links = (one.size, one.nlink) if not one.is_dir else ()
        found[path] = (one.mode, one.uid, one.gid, mtime, one.xattrs, content, *links)
    return found, listed.hardlink_groups()


def check_round_trip(repository: Repository, directory: Path, form: str) -> None:
    """Exports the image and publishes it again under another name, and compares the trees."""
    path = directory / "exported"
    if path.is_dir():
        shutil.rmtree(path)
    export_image(repository, f"{form}:{path}", replace=True)
    again = f"again/{form}" if form == "tar" else "r.example/again:1"
    repository.publish(f"{form}:{path}", place=again)
    seconds = form == "sif"
    assert seen(repository, again, seconds=seconds) == seen(repository, PLACE, seconds=seconds)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_hard_to_keep_comes_back(hard: Repository, tmp_path: Path, form: str) -> None:
    expected, groups = seen(hard, PLACE, seconds=False)
    assert len([group for group in groups if any(path.startswith(b"twins/") for path in group)]) == 2
    assert {frozenset((b"first", b"odd/second", b"odd/third")), frozenset((b"link", b"odd/link"))} < groups
    assert b"empty" not in expected
    assert b"odd/\xff\xfe" in expected
    check_round_trip(hard, tmp_path, form)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", FORMS)
def test_drawn_images_come_back(tmp_path_factory: pytest.TempPathFactory, form: str) -> None:
    directory = tmp_path_factory.mktemp(form)
    repository = Repository(directory)

    @settings(max_examples=count(3, 400), suppress_health_check=list(Check))
    @given(stacks())
    def comes_back(stack: list[list[tuple[Any, bytes]]]) -> None:
        shutil.rmtree(directory / "layout", ignore_errors=True)
        layout = Built([layer(*entries) for entries in stack], how="none").write_layout(directory / "layout")
        try:
            repository.publish(f"oci:{layout}", place=PLACE)
        except FormatError:
            assume(False)
        check_round_trip(repository, directory, form)

    comes_back()
    shutil.rmtree(directory)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "sif"])
def test_a_name_that_hides_another_in_a_layer(tmp_path: Path, form: str) -> None:
    """The name begins with `.wh.`, which in a layer marks a deletion. A published tree may have such a file,
    but only the formats `tar` and `sif`, which have no layers, can export it."""
    repository = Repository(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/.wh.x").write_bytes(b"ordinary")
    repository.publish(f"dir:{tmp_path}/tree", place=PLACE)
    target = f"{form}:{tmp_path}/exported"
    if form != "sif":
        with pytest.raises(FormatError, match=r"\.wh\.x.*export the tree as tar: or sif:"):
            export_image(repository, target)
        assert sorted(os.listdir(tmp_path)) == ["keys", "store", "tree"]
        return
    export_image(repository, target)
    repository.publish(target, place="r.example/again:1")
    assert seen(repository, "r.example/again:1", seconds=True) == seen(repository, PLACE, seconds=True)
