"""Layers are unpacked to the same tree that a mount would show (whiteouts, links, modes), and nothing is
written outside the directory."""

import os
import stat
import tarfile
from pathlib import Path

import pytest

from lazyfs.core.errors import DigestMismatch, LazyfsError
from lazyfs.core.oci.platform import parse_platform
from lazyfs.images.sources.oci_layout import layout_directory
from lazyfs.pulled.unpack import unpack
from tests.support.oci_images import TAG, Built, entry, layer

LOWER = layer(
    entry("a", tarfile.DIRTYPE),
    entry("a/gone", data=b"gone"),
    entry("a/kept", data=b"kept"),
    entry("b", tarfile.DIRTYPE),
    entry("b/lower", data=b"lower"),
    entry("bin", tarfile.SYMTYPE, linkname="usr/bin"),
    entry("usr/bin", tarfile.DIRTYPE),
    entry("usr/bin/tool", data=b"#!/bin/sh\n", mode=0o4755, uid=5, gid=6),
    entry("usr/bin/same", tarfile.LNKTYPE, linkname="usr/bin/tool"),
    entry("closed", tarfile.DIRTYPE, mode=0),
    entry("closed/secret", data=b"secret", mode=0),
    entry("empty", mtime=1_000_000_000),
    entry("tmp", tarfile.DIRTYPE, mode=0o1777),
    entry("device", tarfile.CHRTYPE, devmajor=1, devminor=3),
    entry("pipe", tarfile.FIFOTYPE),
)
UPPER = layer(
    entry("a/.wh.gone"),
    entry("b/.wh..wh..opq"),
    entry("b/upper", data=b"upper"),
    entry("bin/more", data=b"through the link"),
    entry("usr/bin/again", tarfile.LNKTYPE, linkname="usr/bin/tool"),
)


def unpacked(work: Path, *layers: bytes) -> Path:
    layout = Built(list(layers)).write_layout(work / "layout")
    image = layout_directory(f"{layout}:{TAG}", parse_platform("linux/amd64"), asked=True)
    (work / "image").mkdir()
    unpack(image, str(work / "image"), lambda _: None, lambda _: None)
    return work / "image/root"


def test_layers_are_merged(tmp_path: Path) -> None:
    root = unpacked(tmp_path, LOWER, UPPER)
    found = {
        str(path.relative_to(root)): path.read_text() if path.is_file() else ""
        for path in sorted(root.rglob("*"))
    }
    tool = "#!/bin/sh\n"
    assert found == {
        "a": "",
        "a/kept": "kept",
        "b": "",
        "b/upper": "upper",
        "bin": "",
        "closed": "",
        "closed/secret": "secret",
        "empty": "",
        "pipe": "",
        "tmp": "",
        "usr": "",
        "usr/bin": "",
        "usr/bin/again": tool,
        "usr/bin/same": tool,
        "usr/bin/tool": tool,
        "usr/bin/more": "through the link",
    }
    assert os.readlink(root / "bin") == "usr/bin"
    assert sorted(os.listdir(tmp_path / "image")) == ["root"]


def test_modes_owners_times_and_hard_links(tmp_path: Path) -> None:
    """The set-user-id bit is cleared, since every user of this machine could run the file."""
    root = unpacked(tmp_path, LOWER, UPPER)
    tool = (root / "usr/bin/tool").stat()
    assert (stat.S_IMODE(tool.st_mode), tool.st_nlink) == (0o755, 3)
    assert (tool.st_uid, tool.st_gid) == ((5, 6) if os.geteuid() == 0 else (os.geteuid(), os.getegid()))
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((root / "closed").stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "closed/secret").stat().st_mode) == 0o400
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert (root / "empty").stat().st_mtime == 1_000_000_000


@pytest.mark.parametrize("name", ["../outside", "/outside", "up/outside", "top/outside"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    """A layer's links are followed inside the image only."""
    links = [entry("up", tarfile.SYMTYPE, linkname="../../.."), entry("top", tarfile.SYMTYPE, linkname="/")]
    before = set(tmp_path.parent.iterdir())
    try:
        root = unpacked(tmp_path, layer(*links), layer(entry(name, data=b"x")))
    except LazyfsError:
        pass
    else:
        assert (root / "outside").read_bytes() == b"x"
    assert set(tmp_path.parent.iterdir()) == before
    assert not (tmp_path / "outside").exists()
    assert not os.path.lexists("/outside")


def test_a_layer_that_an_image_has_twice(tmp_path: Path) -> None:
    one = layer(entry("file", data=b"content"))
    removed = layer(entry(".wh.file"))
    root = unpacked(tmp_path, one, removed, one)
    assert (root / "file").read_bytes() == b"content"


def test_a_damaged_layer_is_an_error(tmp_path: Path) -> None:
    built = Built([LOWER], "none")
    digest = built.layer_descriptors[0]["digest"]
    built.blobs[digest] = built.blobs[digest].replace(b"#!/bin/sh", b"#!/bin/ch")
    layout = built.write_layout(tmp_path / "layout")
    (tmp_path / "image").mkdir()
    image = layout_directory(f"{layout}:{TAG}", parse_platform("linux/amd64"), asked=True)
    with pytest.raises(DigestMismatch):
        unpack(image, str(tmp_path / "image"), lambda _: None, lambda _: None)
