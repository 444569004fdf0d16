"""An image that is exported and published again has the same tree, in each of the five forms, from a store and
from a directory such as a mount shows."""

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from lazyfs.core.errors import FormatError
from lazyfs.images.exports.export import FORMS, ExportOptions, ExportReport, export, parse_target
from lazyfs.images.exports.published_image import PublishedImage
from lazyfs.repository.commit import read_revision
from lazyfs.repository.diff import resolve
from lazyfs.store import reader
from tests.support.catalog_listing import Listed, open_tree
from tests.support.counts import count
from tests.support.drawn_layers import stacks
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

PLACE = "r.example/app:1"
SECOND = 1_000_000_000
Seen = dict[bytes, tuple[object, ...]]

HARD = (
    [
        entry("./", tarfile.DIRTYPE, mode=0o1711, uid=5, gid=6, mtime=77, pax={"SCHILY.xattr.user.top": "r"}),
        entry("odd", tarfile.DIRTYPE, mode=0o2755, uid=70_000, gid=3_000_000_000),
        *(
            entry(f"odd/{name}", data=name.encode("utf-8", "surrogateescape")[:9])
            for name in (
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
        ),
        entry("/".join(["d" * 200] * 5) + "/deep", data=b"deep"),
        entry("large", data=os.urandom(1 << 20) * 5),
        entry("zeros", data=bytes(9 << 20)),
        entry("empty"),
        entry("times", data=b"t", pax={"mtime": "1234567890.123456789"}),
        entry("early", data=b"t", pax={"mtime": "-1.25"}),
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
        entry("block", tarfile.BLKTYPE, devmajor=259, devminor=70_000),
        entry("pipe", tarfile.FIFOTYPE),
    ],
    [
        entry("odd/third", tarfile.LNKTYPE, linkname="first", mode=0o4755),
        entry(".wh.empty"),
        entry("odd/.wh. lead"),
        entry("made/.wh..wh..opq"),
        entry("made/here", data=b"here"),
    ],
)
"""Two layers with what is hard to keep."""


def export_image(repository: Repository, target: str, **options: Any) -> ExportReport:
    store = repository.store
    image = PublishedImage(reader(store), read_revision(store).root, PLACE)
    return export(image, parse_target(target), ExportOptions(**options))


def seen(repository: Repository, place: str, *, seconds: bool = False) -> tuple[Seen, set[frozenset[bytes]]]:
    """Returns what a program sees of a tree: path -> attributes and content, and the groups of hardlinks.
    `seconds`: times as squashfs keeps them."""
    tree = open_tree(repository.path)
    listed = Listed(tree, resolve(tree, place).path)
    digests = listed.digests()
    found: Seen = {}
    for path, one in [(b"", listed.root), *listed.entries.items()]:
        mtime = min(max(one.mtime // SECOND, 0), (1 << 32) - 1) * SECOND if seconds else one.mtime
        shown = digests.get(path) or (one.content if one.is_link else one.detail if not one.is_dir else None)
        size = None if one.is_dir else one.size
        links = None if one.is_dir else one.nlink
        found[path] = (one.mode, one.uid, one.gid, mtime, size, links, one.xattrs if path else (), shown)
    return found, listed.hardlink_groups()


def source_of(form: str, path: Path) -> str:
    return f"{form}:{path}"


def round_trip(repository: Repository, directory: Path, form: str) -> str:
    """Exports the image and publishes it again, under a new name; returns that name."""
    path = directory / "exported"
    if path.is_dir():
        shutil.rmtree(path)
    export_image(repository, f"{form}:{path}", replace=True)
    again = "again/tree" if form == "tar" else "r.example/again:1"
    repository.publish(f"{form}:{path}", place=again)
    return again


def check_round_trip(repository: Repository, directory: Path, form: str) -> None:
    again = round_trip(repository, directory, form)
    seconds = form == "sif"
    assert seen(repository, again, seconds=seconds) == seen(repository, PLACE, seconds=seconds)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_of_hard_cases_comes_back(tmp_path: Path, form: str) -> None:
    repository = Repository(tmp_path)
    layout = Built([layer(*entries) for entries in HARD]).write_layout(tmp_path / "layout")
    repository.publish(f"oci:{layout}", place=PLACE)
    expected = seen(repository, PLACE)[0]
    assert expected[b"odd/third"][5] == 3
    assert b"empty" not in expected
    check_round_trip(repository, tmp_path, form)


@pytest.mark.parametrize("form", FORMS)
def test_drawn_images_come_back(tmp_path_factory: pytest.TempPathFactory, form: str) -> None:
    directory = tmp_path_factory.mktemp(form)
    repository = Repository(directory)

    @settings(max_examples=count(8, 400), deadline=None, suppress_health_check=list(HealthCheck))
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


@pytest.mark.parametrize("form", FORMS)
def test_equal_images_give_equal_bytes(tmp_path: Path, form: str) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        repository = Repository(tmp_path / name)
        layout = Built([layer(*entries) for entries in HARD]).write_layout(tmp_path / name / "layout")
        repository.publish(f"oci:{layout}", place=PLACE, plain=False)
        target = tmp_path / name / "exported"
        export_image(repository, f"{form}:{target}")
        files = sorted(target.rglob("*")) if target.is_dir() else [target]
        made.append([(path.name, path.read_bytes()) for path in files if path.is_file()])
    assert made[0] == made[1]
    assert made[0]
