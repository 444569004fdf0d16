"""A small archive takes bounded memory, time and space, wherever in it the many bytes are."""

import gzip
import tarfile
from functools import partial
from pathlib import Path

import pytest

from lazyfs.core.errors import FormatError
from lazyfs.core.layers.entry_budget import ENTRIES, ENTRY, HEADERS, OVERHEAD, EntryBudget
from lazyfs.core.layers.tar import MAX_SPARSE, TarReader
from lazyfs.images import image_tree
from lazyfs.images.layer_reader import LayerLimits
from lazyfs.images.sources import docker_archive, layout_files
from tests.support.layers_read import read
from tests.support.oci_images import Built, compress, entry, layer
from tests.support.repositories import Repository

LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
EXTENDED = [b"g", b"x", b"L", b"K"]
SMALL = LayerLimits(free=1 << 20, ratio=100)
MIB = bytes(1 << 20)


def header(kind: bytes, data: bytes = b"") -> bytes:
    """Returns an extended header with this content."""
    info = tarfile.TarInfo("extended")
    info.type, info.size = kind, len(data)
    return info.tobuf(format=tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def with_attributes(name: str, count: int, size: int) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, pax={f"SCHILY.xattr.user.{number:04}": "v" * size for number in range(count)})


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_decompression_bombs_are_refused(how: str) -> None:
    for bomb in (
        layer(entry("zeros", data=bytes(32 << 20))),
        layer(entry("f")) + bytes(32 << 20),
        *(header(kind, MIB) * 32 + layer(entry("f")) for kind in EXTENDED),
    ):
        with pytest.raises(FormatError, match=r"layer: .* a decompression bomb"):
            read(compress(bomb, how), limits=SMALL)


@pytest.mark.parametrize("kind", EXTENDED)
def test_the_bytes_of_headers_are_expanded_bytes(kind: bytes) -> None:
    with pytest.raises(FormatError, match="layer: expands to over 2097152 bytes"):
        read(header(kind, MIB) * 4 + layer(entry("f")), limits=LayerLimits(bytes=2 << 20))


@pytest.mark.parametrize("kind", EXTENDED)
@pytest.mark.parametrize("data", [b"", MIB])
def test_a_chain_of_extended_headers_is_refused(kind: bytes, data: bytes) -> None:
    """Headers without content are empty blocks: each costs time, and none makes an entry."""
    chain = header(kind, data) * (8 if data else 4096)
    with pytest.raises(FormatError, match="layer: over 100000 bytes of extended headers"):
        read(chain + layer(entry("f")), budget=EntryBudget(headers=100_000))


def test_attributes_are_bounded_in_all_entries_together() -> None:
    few = layer(*(with_attributes(f"f{number}", 2, 5000) for number in range(9)))
    assert len(read(few, budget=EntryBudget(headers=100_000))) == 9
    for count, size in ((2, 10_000), (200, 1)):  # a few large attributes, and many small ones
        many = layer(*(with_attributes(f"f{number}", count, size) for number in range(9)))
        with pytest.raises(FormatError, match="layer: over 100000 bytes of extended headers"):
            read(many, budget=EntryBudget(headers=100_000))


def test_entries_are_bounded() -> None:
    files = layer(*(entry(f"f{number}") for number in range(4)))
    assert len(read(files, budget=EntryBudget(entries=4))) == 4
    with pytest.raises(FormatError, match="layer: over 3 entries"):
        read(files, budget=EntryBudget(entries=3))


def test_the_layers_of_an_image_share_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(tmp_path)
    image = Built([layer(entry("a"), entry("b")), layer(entry("c"), entry("d"))])
    layout = image.write_layout(tmp_path / "i")
    monkeypatch.setattr(image_tree, "EntryBudget", partial(EntryBudget, entries=3))
    with pytest.raises(FormatError, match=r"layer 1 .*: over 3 entries"):
        repository.publish(f"oci:{layout}", place="r.example/x:1")


def test_a_large_honest_image_is_within_the_bounds() -> None:
    """500,000 entries with a signature, a label, a capability, a long name and three times each; and as many
    entries as there may be, with a long name each."""
    large = EntryBudget()
    for _ in range(500_000):
        large.count_header(1024 - 3 * OVERHEAD)
        large.count_entry(2)
    assert ENTRIES * max(OVERHEAD + 350 - ENTRY, 0) < HEADERS


@pytest.mark.parametrize("kind", [LINK, HARD])
def test_a_link_to_a_longer_path_than_linux_takes_is_refused(kind: bytes) -> None:
    name = "d/" * 2047
    target = layer(entry(name + "f"), entry("l", kind, linkname=name + "f"))
    assert len(read(target)[1].content) == 4095
    longer = layer(entry("f"), entry("l", kind, linkname=name + "ff"))
    with pytest.raises(FormatError, match=r"layer: layer entry b'l' .* 4096 bytes, over the 4095 that Linux"):
        read(longer)


def test_more_names_of_attributes_than_linux_takes_are_refused() -> None:
    names = {f"SCHILY.xattr.user.{number:0240}": "v" for number in range(270)}
    with pytest.raises(FormatError, match=r"layer: layer entry b'f': the names .* over the 65536 that Linux"):
        read(layer(entry("f", pax=names)))


def test_a_message_about_a_long_name_is_short() -> None:
    for odd in ("../" * 200_000, "n" * 600_000):
        with pytest.raises(FormatError) as raised:
            read(layer(entry(odd)))
        assert len(str(raised.value)) < 1000


def test_a_sparse_map_that_goes_on_without_a_run_ends() -> None:
    head = bytearray(header(tarfile.GNUTYPE_SPARSE))
    head[482] = 1  # the map goes on in the next block
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    blocks = iter([bytes(head)])
    empty = bytes(504) + b"\1" + bytes(7)
    with pytest.raises(FormatError, match=f"over {MAX_SPARSE} parts"):
        TarReader(lambda count: next(blocks, empty) if count else b"").next()


@pytest.mark.parametrize(
    ("form", "module"), [("docker-archive", docker_archive), ("oci-archive", layout_files)]
)
def test_a_compressed_archive_of_an_image_is_no_bomb(
    form: str, module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LayerLimits", lambda: SMALL)
    archive = tmp_path / "saved.tar.gz"
    archive.write_bytes(gzip.compress(layer(entry("zeros", data=bytes(32 << 20))), 1))
    with pytest.raises(FormatError, match=f"{form}:.*: a decompression bomb"):
        Repository(tmp_path).publish(f"{form}:{archive}", place="r.example/x:1")
