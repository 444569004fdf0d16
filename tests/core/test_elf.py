"""The libraries that ELF files need. For real files they are those that readelf lists; hostile files raise no
exception."""

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.elf import (
    HEADER,
    NAME,
    NOTHING,
    SEGMENTS,
    Dynamic,
    NotAtHand,
    Read,
    dynamic,
    interpreter,
    linked_parts,
)
from lazyfs.core.library_search import DIRECTORIES, parse_conf, places
from tests.support.elf_files import library

REAL = [*sorted(Path("/usr/lib/x86_64-linux-gnu").glob("lib[a-d]*.so.*"))[:20], Path("/bin/sh")]


def of(data: bytes) -> Dynamic:
    return dynamic(reading(data))


def reading(data: bytes) -> Read:
    return lambda offset, length: data[offset : offset + length]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files_need_what_readelf_says(path: Path) -> None:
    told = subprocess.run(["readelf", "-d", path], check=True, capture_output=True, text=True).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", told)
    assert [name.decode() for name in of(path.read_bytes()).needed] == needed


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_class_and_byte_order(bits: int, order: str) -> None:
    data = library([b"libc.so.6", b"liba.so"], runpath=b"$ORIGIN/../x", bits=bits, order=order)
    assert of(data) == Dynamic((b"libc.so.6", b"liba.so"), b"", b"$ORIGIN/../x", bits == 64)
    data = library([b"liba.so"], rpath=b"/opt/lib", bits=bits, order=order)
    assert of(data) == Dynamic((b"liba.so",), b"/opt/lib", b"", bits == 64)


def test_runpath_replaces_rpath() -> None:
    assert of(library([b"a"], rpath=b"/r", runpath=b"/n"))[1:3] == (b"", b"/n")


def test_bytes_that_are_not_at_hand_are_named() -> None:
    data = library([b"liba.so"])
    with pytest.raises(NotAtHand) as missing:
        dynamic(lambda offset, length: data[offset : offset + length] if offset + length <= HEADER else None)
    assert missing.value.offset == HEADER


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files_have_the_interpreter_and_the_writable_parts_that_readelf_says(path: Path) -> None:
    told = subprocess.run(["readelf", "-lW", path], check=True, capture_output=True, text=True).stdout
    data = path.read_bytes()
    named = re.search(r"interpreter: (.*)\]", told)
    assert interpreter(reading(data)).decode() == (named[1] if named else "")
    loaded = [line.split() for line in told.splitlines() if line.strip().startswith("LOAD")]
    expected = [
        (int(fields[1], 16), int(fields[4], 16))
        for number, fields in enumerate(loaded)
        if number == 0 or "W" in "".join(fields[6:-1])
    ]
    assert linked_parts(reading(data)) == expected


@given(st.binary(max_size=300))
def test_any_bytes_need_nothing_or_little(data: bytes) -> None:
    assert of(data) == NOTHING
    assert interpreter(reading(data)) == b""
    assert linked_parts(reading(data)) == []
    assert len(of(b"\x7fELF" + data).needed) <= 128
    assert len(interpreter(reading(b"\x7fELF" + data))) <= NAME
    assert len(linked_parts(reading(b"\x7fELF" + data))) <= SEGMENTS


@given(
    st.sampled_from([32, 64]), st.sampled_from("<>"),
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=9)), max_size=6),
    st.integers(0, 400),
)  # fmt: skip
def test_any_change_to_a_library_raises_nothing(
    bits: int, order: str, changes: list[tuple[int, bytes]], end: int
) -> None:
    """The reader asks only for offsets that a file can have, for at most 16 KiB at once, and only a few
    times."""
    data = bytearray(library([b"libc.so.6", b"liba.so"], runpath=b"$ORIGIN:/usr/lib", bits=bits, order=order))
    for at, new in changes:
        data[at : at + len(new)] = new
    whole = bytes(data[: len(data) - end])
    asked = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return whole[offset : offset + length]

    found = dynamic(read)
    assert all(0 <= offset < 1 << 63 and 0 <= length <= 1 << 14 for offset, length in asked)
    assert len(asked) <= 3 + 128 + 2
    assert all(0 < len(name) <= 255 for name in found.needed)


def test_the_order_of_places_is_that_of_ld_so() -> None:
    file = Dynamic((), b"", b"$ORIGIN/../x.libs:relative:/opt/$LIB:${ORIGIN}:/opt/lib/", is_64=True)
    found = list(places(b"liba.so", file, b"usr/lib/x", (b"etc/alternatives/lib",)))
    assert found[:4] == [
        b"usr/lib/x/../x.libs/liba.so",
        b"usr/lib/x/liba.so",
        b"opt/lib/liba.so",
        b"etc/alternatives/lib/liba.so",
    ]
    assert found[4] == b"lib/x86_64-linux-gnu/liba.so"
    assert list(places(b"/opt/liba.so", file, b"", ())) == [b"opt/liba.so"]
    assert list(places(b"sub/liba.so", file, b"", ())) == []


def test_ld_so_conf() -> None:
    text = b"# comment\ninclude ld.so.conf.d/*.conf /opt/x.conf\n/opt/a /opt/b=old # c\nx\nhwcap 1 x\n/opt/a"
    assert parse_conf(text) == (((b"opt/a", b"opt/b")), (b"etc/ld.so.conf.d/*.conf", b"opt/x.conf"))


@given(st.binary(max_size=400), st.binary(max_size=60), st.binary(max_size=200), st.binary(max_size=60))
def test_any_text_gives_paths_inside_the_image(
    conf: bytes, name: bytes, listed: bytes, directory: bytes
) -> None:
    known = parse_conf(b"/a\n" + conf)
    assert len(known.directories) <= DIRECTORIES
    found = list(places(name, Dynamic((), b"", listed, is_64=False), directory, known.directories))
    assert len(found) <= 3 * DIRECTORIES
    assert not [path for path in found if path.startswith(b"/")]
