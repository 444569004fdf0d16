"""The hard cases of unpacking layers, one named test each; see docs/publishing.md for the table."""

import gzip
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from isal import isal_zlib

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.errors import BadData, FormatError
from lazyfs.core.layers import tar
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import from_member
from lazyfs.images import streams
from lazyfs.images.streams import decompressed
from tests.support.catalog_listing import Listed, open_tree
from tests.support.layers_read import read
from tests.support.oci_images import Built, compress, entry, layer
from tests.support.repositories import Repository
from tests.support.zstd_bombs import BLOCK, peak_of, rle_bomb

DIR, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def merged(*layers: bytes) -> Inode:
    merge = Merge()
    for data in layers:
        merge.start_layer()
        for record in read(data):
            merge.apply(record)
    return merge.root


def paths(root: Inode) -> list[str]:
    found = []
    stack = [("", root)]
    while stack:
        prefix, inode = stack.pop()
        for name, child in (inode.children or {}).items():
            path = f"{prefix}{os.fsdecode(name)}"
            found.append(path)
            stack.append((f"{path}/", child))
    return sorted(found)


def at(root: Inode, path: str) -> Inode:
    for name in os.fsencode(path).split(b"/"):
        assert root.children is not None
        root = root.children[name]
    return root


LOWER = layer(
    entry("d", DIR, mode=0o700), entry("d/a", data=b"a"), entry("d/b", data=b"b"), entry("d/s", DIR),
    entry("d/s/deep"), entry("f", data=b"lower"), entry("l", LINK, linkname="d"),
)  # fmt: skip


@pytest.mark.parametrize("first", [True, False])
def test_whiteout_hides_lower_layers_only_in_any_order(first: bool) -> None:
    entries = [entry("d/.wh.a"), entry("d/a", data=b"new")]
    root = merged(LOWER, layer(*(entries if first else entries[::-1])))
    assert at(root, "d/a").size == 3
    assert "d/b" in paths(root)
    assert "d/a" not in paths(merged(LOWER, layer(entry("d/.wh.a"))))


@pytest.mark.parametrize("first", [True, False])
def test_whiteout_of_a_directory_keeps_what_its_own_layer_put_there(first: bool) -> None:
    entries = [entry(".wh.d"), entry("d", DIR), entry("d/mine")]
    root = merged(LOWER, layer(*(entries if first else entries[1:] + entries[:1])))
    assert [path for path in paths(root) if path.startswith("d")] == ["d", "d/mine"]


@pytest.mark.parametrize("first", [True, False])
def test_opaque_directory_keeps_children_of_its_own_layer(first: bool) -> None:
    entries = [entry("d/.wh..wh..opq"), entry("d/s/mine")]
    root = merged(LOWER, layer(*(entries if first else entries[::-1])))
    assert [path for path in paths(root) if path.startswith("d")] == ["d", "d/s", "d/s/mine"]
    assert at(root, "d").mode == stat.S_IFDIR | 0o700


@pytest.mark.parametrize("name", [".wh.", "d/.wh.", "d/.wh..", "d/.wh..."])
def test_bare_whiteout_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="whiteout that names nothing"):
        merged(LOWER, layer(entry(name)))


@pytest.mark.parametrize("kind", [HARD, LINK, DIR, tarfile.CHRTYPE])
def test_whiteout_of_any_type_acts_on_its_name(kind: bytes) -> None:
    root = merged(LOWER, layer(entry("d/.wh.a", kind, linkname="f")))
    assert "d/a" not in paths(root)
    assert not [path for path in paths(root) if ".wh." in path]


def test_hardlink_to_a_lower_layers_file_shares_it() -> None:
    root = merged(LOWER, layer(entry("d/again", HARD, linkname="f", mode=0o777, uid=9, mtime=99)))
    assert at(root, "d/again") is at(root, "f")
    assert at(root, "f").uid == 0  # the link's own metadata is ignored


def test_hardlink_through_a_symbolic_link_in_the_image() -> None:
    root = merged(LOWER, layer(entry("again", HARD, linkname="l/a")))
    assert at(root, "again") is at(root, "d/a")


@pytest.mark.parametrize("target", ["nothing", "d", "d/nothing/x"])
def test_hardlink_to_nothing_or_a_directory_is_refused(target: str) -> None:
    with pytest.raises(FormatError, match="hard"):
        merged(LOWER, layer(entry("again", HARD, linkname=target)))


def test_special_bits_and_mode_000_are_kept() -> None:
    modes = {"su": 0o4755, "sg": 0o2755, "none": 0, "all": 0o7777}
    root = merged(
        layer(*(entry(name, mode=mode) for name, mode in modes.items()), entry("t", DIR, mode=0o1777))
    )
    assert {name: stat.S_IMODE(at(root, name).mode) for name in modes} == modes
    assert at(root, "t").mode == stat.S_IFDIR | 0o1777


def test_owners_are_kept_even_beyond_octal() -> None:
    root = merged(layer(entry("f", uid=1234, gid=(1 << 31) + 5)))
    assert (at(root, "f").uid, at(root, "f").gid) == (1234, (1 << 31) + 5)
    gnu = merged(layer(entry("f", uid=(1 << 31) + 7), format=tarfile.GNU_FORMAT))
    assert at(gnu, "f").uid == (1 << 31) + 7


def test_devices_and_fifos() -> None:
    root = merged(
        layer(
            entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            entry("disk", tarfile.BLKTYPE, devmajor=259, devminor=70000),
            entry("pipe", tarfile.FIFOTYPE),
        )
    )
    assert (at(root, "null").mode, at(root, "null").detail) == (stat.S_IFCHR | 0o666, 1 << 32 | 3)
    assert (stat.S_IFMT(at(root, "disk").mode), at(root, "disk").detail) == (stat.S_IFBLK, 259 << 32 | 70000)
    assert stat.S_IFMT(at(root, "pipe").mode) == stat.S_IFIFO


def test_xattrs_and_file_capabilities_are_raw_bytes() -> None:
    value = b"\x01\0\0\x02\0\x04\0\0\xff\n=\0"
    record = b"SCHILY.xattr.security.capability=" + value + b"\n"
    size = len(record) + 3
    pax = b"%d %s" % (size, record)
    assert len(pax) == size
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(pax)
    data = header.tobuf() + pax + bytes(-len(pax) % 512) + layer(entry("f"))
    assert at(merged(data), "f").xattrs == ((b"security.capability", value),)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/../out"])
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="leads out of the image"):
        merged(layer(entry(name)))


def test_an_absolute_name_starts_at_the_images_root() -> None:
    assert paths(merged(layer(entry("/nix", DIR), entry("/nix/x"), entry("./y"), entry("nix//./z")))) == [
        "nix", "nix/x", "nix/z", "y",
    ]  # fmt: skip


def test_a_link_that_leads_out_is_kept_but_not_followed() -> None:
    lower = layer(entry("out", LINK, linkname="../../../etc"), entry("etc", DIR))
    assert at(merged(lower), "out").content == b"../../../etc"
    with pytest.raises(FormatError, match="leads out of the image through a symbolic link"):
        merged(lower, layer(entry("out/passwd", data=b"x")))


def test_an_absolute_link_is_followed_inside_the_image() -> None:
    root = merged(layer(entry("l", LINK, linkname="/etc"), entry("etc", DIR)), layer(entry("l/passwd")))
    assert paths(root) == ["etc", "etc/passwd", "l"]


def test_links_in_a_circle_are_refused() -> None:
    circle = layer(entry("a", LINK, linkname="b"), entry("b", LINK, linkname="a"), entry("a/x"))
    with pytest.raises(FormatError, match="links"):
        merged(circle)


def test_what_is_in_the_way_is_replaced() -> None:
    root = merged(LOWER, layer(entry("l", data=b"file over link"), entry("d", data=b"file over directory")))
    assert paths(root) == ["d", "f", "l"]
    assert stat.S_ISREG(at(root, "l").mode)


def test_directory_over_link_replaces_it_with_a_warning() -> None:
    warnings: list[str] = []
    merge = Merge(warnings.append)
    for data in (LOWER, layer(entry("l", DIR), entry("l/x"))):
        merge.start_layer()
        for record in read(data):
            merge.apply(record)
    assert "l/x" in paths(merge.root)
    assert "d/x" not in paths(merge.root)
    assert warnings == ["directory b'l' replaces a symbolic link to b'd'"]


def test_a_file_through_a_link_of_a_lower_layer_lands_behind_it() -> None:
    assert "d/x" in paths(merged(LOWER, layer(entry("l/x"))))


def test_a_file_below_a_file_is_refused() -> None:
    with pytest.raises(FormatError, match="b'f' is not a directory"):
        merged(LOWER, layer(entry("f/x")))


def test_duplicate_entry_the_last_wins() -> None:
    root = merged(layer(entry("f", data=b"longer first"), entry("f", data=b"last", mode=0o600)))
    assert (at(root, "f").size, at(root, "f").mode) == (4, stat.S_IFREG | 0o600)


def test_directory_times_are_those_of_their_entries_and_nanoseconds_exact() -> None:
    times = {"mtime": "1234567890.123456789"}
    root = merged(
        layer(entry("d", DIR, pax=times), entry("d/f", mtime=5), entry("d/g", HARD, linkname="d/f"))
    )
    assert at(root, "d").mtime == 1234567890_123456789
    again = merged(layer(entry("d", DIR, pax=times)), layer(entry("d/f"), entry("d/.wh.f")))
    assert at(again, "d").mtime == 1234567890_123456789
    before = merged(layer(entry("d", DIR, pax={"mtime": "-1.5"})))
    assert at(before, "d").mtime == -1_500_000_000


def test_parents_that_no_layer_has_get_fixed_defaults() -> None:
    root = merged(layer(entry("a/b/c")))
    for path in ("a", "a/b"):
        inode = at(root, path)
        assert (inode.mode, inode.uid, inode.gid, inode.mtime) == (stat.S_IFDIR | 0o755, 0, 0, 0)


def test_pax_global_headers_are_skipped() -> None:
    with io.BytesIO() as buffer:
        headers = {"comment": "a commit", "mtime": "77"}
        with tarfile.open(
            fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers
        ) as archive:
            archive.addfile(tarfile.TarInfo("f"))
        root = merged(buffer.getvalue())
    assert paths(root) == ["f"]
    assert at(root, "f").mtime == 0


@pytest.mark.parametrize("kind", [b"D", b"M", b"V", b"Z"])
def test_unknown_entry_type_is_refused(kind: bytes) -> None:
    with pytest.raises(FormatError, match=r"entry b'odd' has type b'.', which is not one of images"):
        merged(layer(entry("odd", kind)))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_targets(format: int) -> None:  # noqa: A002
    name = "/".join(["n" * 200] * 4)
    target = "t" * 3000
    root = merged(layer(entry(name, LINK, linkname=target), entry("h", HARD, linkname=name), format=format))
    assert at(root, name).content == target.encode()
    assert at(root, "h") is at(root, name)


def test_ustar_prefix() -> None:
    name = "p" * 100 + "/" + "n" * 90
    assert name in paths(merged(layer(entry(name), format=tarfile.USTAR_FORMAT)))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_that_are_not_utf8(format: int) -> None:  # noqa: A002
    name = os.fsdecode(b"caf\xe9-\xff\xfe")
    assert paths(merged(layer(entry(name), format=format))) == [name]


def test_sparse_files_are_expanded(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        for position in range(0, 8 << 20, 1 << 20):
            file.seek(position)
            file.write(b"x%d" % position)
        file.truncate(9 << 20)
    (tmp_path / "after").write_bytes(b"after")
    repository = Repository(tmp_path)
    for version in ("oldgnu", "0.0", "0.1", "1.0"):
        archive = tmp_path / f"{version}.tar"
        how = ["--format=oldgnu"] if version == "oldgnu" else ["--format=pax", f"--sparse-version={version}"]
        command = ["tar", "-C", str(tmp_path), "-cSf", str(archive), *how, "sparse", "after"]
        subprocess.run(command, check=True)
        assert archive.stat().st_size < 1 << 20
        repository.publish(f"tar:{archive}", place="sparse/tree")
        listed = Listed(open_tree(repository.path), "sparse/tree")
        assert listed.read(b"sparse") == sparse.read_bytes()
        assert listed.read(b"after") == b"after"


@pytest.mark.parametrize("how", ["none", "gzip", "zstd"])
def test_compression_is_told_apart_by_magic(how: str) -> None:
    data = layer(entry("f", data=os.urandom(3 << 20)), entry("g"))
    assert [record.path for record in read(compress(data, how))] == [b"f", b"g"]


def test_a_layer_of_tiny_blocks_comes_block_by_block() -> None:
    """A layer of 4 KB expands to 128 MiB, and the reader must not hold these in one piece."""
    bomb = rle_bomb(2_000, 3 << 20)

    def taken() -> None:
        left = 100 << 20
        for part in decompressed([bomb]):
            assert len(part) <= BLOCK
            left -= len(part)
            if left < 0:
                return

    assert peak_of(taken) < 2 << 20


def test_gzip_of_several_members_and_zstd_of_several_frames() -> None:
    data = layer(entry("f", data=os.urandom(2 << 20)), entry("g"))
    middle = len(data) // 2
    halves = (data[:middle], data[middle:])
    for joined in (
        b"".join(map(gzip.compress, halves)),
        b"".join(map(gzip.compress, halves)) + bytes(512),
        b"".join(map(zstandard.compress, halves)),
        b"\x50\x2a\x4d\x18\x04\0\0\0skip".join(map(zstandard.compress, halves)),
    ):
        assert [record.path for record in read(joined)] == [b"f", b"g"]


@pytest.mark.parametrize(
    "data",
    [b"", gzip.compress(b""), zstandard.compress(b""), bytes(1024), layer()],
    ids=["no bytes", "gzip", "zstd", "zeros", "tar"],
)
def test_empty_layers(data: bytes) -> None:
    assert read(data) == []


@pytest.mark.parametrize("padding", [0, 3])
def test_a_layer_may_end_with_its_last_byte_of_data(padding: int) -> None:
    """`umoci insert` writes no padding and no end marker. umoci and docker read such a layer, and its digest
    proves that it is whole."""
    data = layer(entry("f", data=b"x" * 1000))
    assert [record.path for record in read(data[: 512 + 1000 + padding])] == [b"f"]
    with pytest.raises(BadData, match="ends inside b'f'"):
        read(data[: 512 + 999])


@pytest.mark.parametrize("how", ["none", "gzip", "zstd"])
def test_truncated_layers_are_refused(how: str) -> None:
    data = compress(layer(entry("f", data=os.urandom(100_000))), how)
    for length in (100, 5000, len(data) - 20_000):
        with pytest.raises(BadData, match="layer: "):
            read(data[:length])


def test_absurd_sizes_are_refused_before_anything_is_read() -> None:
    info, _ = entry("big")
    info.size = 1 << 60
    with pytest.raises(FormatError, match="expands to over"):
        read(info.tobuf(format=tarfile.GNU_FORMAT) + bytes(1024))
    info.size = 0
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 18}
    with pytest.raises(FormatError, match=r"cut off|expands to over"):
        read(info.tobuf(format=tarfile.PAX_FORMAT) + bytes(1024))


def test_a_huge_extended_header_is_refused_before_it_is_held() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 34
    with pytest.raises(FormatError, match="extended header of 17179869184 bytes"):
        read(info.tobuf(format=tarfile.GNU_FORMAT) + bytes(4096))


def _rewritten(info: tarfile.TarInfo, *fields: tuple[int, bytes]) -> bytes:
    """Returns a tar header with `fields`, pairs of offset and bytes, written over it, and a correct
    checksum."""
    header = bytearray(info.tobuf(format=tarfile.GNU_FORMAT))
    for place, field in fields:
        header[place : place + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


MINUS = (-512).to_bytes(12, "big", signed=True)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE]
)
@pytest.mark.parametrize(
    "size", [MINUS, b"-1000", b"+1000", b"1_000", b"0o17", b"\xff" * 12, b"\x80" + b"\xff" * 11]
)
def test_sizes_that_are_none_are_refused(kind: bytes, size: bytes) -> None:
    """A reader that accepted a negative size would return to the same header for ever."""
    info = tarfile.TarInfo("x")
    info.type = kind
    header = _rewritten(info, (124, size.ljust(12, b"\0")))
    with pytest.raises(FormatError):
        read(header + bytes(2048))


def test_a_sparse_file_with_a_hole_of_less_than_nothing_is_refused() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    runs = b"".join(b"%011o\0" % number for number in (0, 1024, 1024)) + MINUS
    header = _rewritten(info, (386, runs), (483, b"%011o\0" % 2048))
    with pytest.raises(FormatError, match="overlaps or overruns"):
        read(header + bytes(2048))


def test_what_is_refused_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    before = repository.files()
    image = Built([layer(entry("good", data=os.urandom(5 << 20))), layer(entry("../out"))])
    with pytest.raises(FormatError, match=r"layer 1 .*leads out of the image"):
        repository.publish(f"oci:{image.write_layout(tmp_path / 'i')}", place="r.example/x:1")
    assert repository.files() == before


def test_a_layer_whose_bytes_do_not_match_is_refused(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    before = repository.files()
    image = Built([layer(entry("f", data=b"x"))], how="none")
    layout = image.write_layout(tmp_path / "i")
    stored = layout / "blobs/sha256" / image.layer_descriptors[0]["digest"].removeprefix("sha256:")
    stored.write_bytes(stored.read_bytes().replace(b"x", b"y"))
    with pytest.raises(BadData, match="layer 0"):
        repository.publish(f"oci:{layout}", place="r.example/x:1")
    lying = Built([layer(entry("f"))], rootfs={"type": "layers", "diff_ids": ["sha256:" + "0" * 64]})
    with pytest.raises(BadData, match="diff_id"):
        repository.publish(f"oci:{lying.write_layout(tmp_path / 'l')}", place="r.example/x:1")
    assert repository.files() == before


def test_a_layer_compressed_otherwise_than_its_manifest_says_is_refused(tmp_path: Path) -> None:
    """The stored blob differs from the one in the manifest only in the time of its gzip header; size and
    content are equal."""
    image = Built([layer(entry("f", data=b"x"))])
    layout = image.write_layout(tmp_path / "i")
    stored = layout / "blobs/sha256" / image.layer_descriptors[0]["digest"].removeprefix("sha256:")
    data = bytearray(stored.read_bytes())
    data[4] ^= 1  # changes the time in the gzip header
    stored.write_bytes(data)
    with pytest.raises(BadData, match=r"layer 0 .*: digest is sha256:"):
        Repository(tmp_path).publish(f"oci:{layout}", place="r.example/x:1")


def test_records_keep_every_field_of_an_entry() -> None:
    reader = tar.TarReader(io.BytesIO(layer(entry("f", data=b"abc", uid=3, gid=4, mtime=5))).read)
    member = reader.next()
    assert member is not None
    record = from_member(member, whiteouts=True)
    assert (record.path, record.size, record.uid, record.gid, record.mtime) == (b"f", 3, 3, 4, 5_000_000_000)
    assert reader.read(10) == b"abc"
    assert reader.next() is None


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_many_empty_members_are_not_copied_over_and_over(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A piece of 1 MiB can hold 50,000 empty members. If the rest of the piece were copied after each of
    them, the time would be quadratic."""
    handed = 0

    class Counting:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def decompress(self, data: bytes, *limits: int) -> bytes:
            nonlocal handed
            handed += len(data)
            out: bytes = self._inner.decompress(data, *limits)
            return out

    class Frame(streams._Frame):
        def __init__(self, decompressor: Any, head: bytes, source: Iterator[bytes]) -> None:
            nonlocal handed
            handed += len(head)
            super().__init__(decompressor, head, source)

    real = isal_zlib.decompressobj
    monkeypatch.setattr(isal_zlib, "decompressobj", lambda bits: Counting(real(bits)))
    monkeypatch.setattr(streams, "_Frame", Frame)
    member = gzip.compress(b"") if kind == "gzip" else bytes.fromhex("28b52ffd2000010000")
    count = streams.PART // len(member)
    assert b"".join(streams.decompressed(iter([member * count]))) == b""
    assert handed < count * (32 << 10)
