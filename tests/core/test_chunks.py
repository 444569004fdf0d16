"""Chunk lists: every byte of a file is in exactly one chunk, and a wrong list is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.chunks import MIN_SHIFT, ChunkList, list_size
from lazyfs.core.digest import sha256
from lazyfs.core.errors import FormatError

SHIFT = MIN_SHIFT


def cut(content: bytes) -> tuple[ChunkList, dict[bytes, bytes]]:
    chunks = [content[i : i + (1 << SHIFT)] for i in range(0, len(content), 1 << SHIFT)]
    encoded = ChunkList.encode([sha256(chunk) for chunk in chunks], len(content), SHIFT)
    assert len(encoded) == list_size(len(content), SHIFT)
    return ChunkList(encoded, len(content), SHIFT), {sha256(chunk): chunk for chunk in chunks}


@given(st.integers(1, 20_000), st.integers(0, 25_000), st.integers(0, 25_000))
def test_slices_give_exactly_the_bytes_asked_for(size: int, offset: int, length: int) -> None:
    content = bytes(i * 7 % 251 for i in range(size))
    chunks, objects = cut(content)
    read = b""
    for ref, start, take in chunks.slices(offset, length):
        chunk = objects[ref.digest]
        assert len(chunk) == ref.size
        assert 0 < take <= ref.size - start
        read += chunk[start : start + take]
    assert read == content[offset : offset + length]


@given(st.binary(max_size=200))
def test_random_bytes_are_no_chunk_list(encoded: bytes) -> None:
    with pytest.raises(FormatError):
        ChunkList(encoded, 10_000, SHIFT)


@pytest.mark.parametrize(("size", "shift"), [(9_999, SHIFT), (10_000, SHIFT + 1), (20_000, SHIFT)])
def test_the_list_of_another_file_is_refused(size: int, shift: int) -> None:
    encoded = ChunkList.encode([sha256(b"")] * 3, 10_000, SHIFT)
    ChunkList(encoded, 10_000, SHIFT)
    with pytest.raises(FormatError):
        ChunkList(encoded, size, shift)


def test_a_list_with_a_digest_too_few_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="2 digests for 3 chunks"):
        ChunkList.encode([sha256(b"")] * 2, 10_000, SHIFT)


def test_a_chunk_outside_the_file_is_an_index_error() -> None:
    chunks, _ = cut(bytes(10_000))
    assert len(chunks) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError):
            chunks.chunk(index)
