"""Bundles: each member is available, verified, as soon as its bytes have arrived, however these are cut. A
wrong bundle is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import bundle, codec
from lazyfs.core.digest import Digest, ref_of
from lazyfs.core.errors import BadData, DigestMismatch, FormatError
from tests.support.zstd_bombs import peak_of, rle_bomb


def bundle_of(plains: list[bytes]) -> tuple[Digest, bytes]:
    members = [(ref_of(plain), codec.encode(plain)) for plain in plains]
    return bundle.name(ref.digest for ref, _ in members), bundle.encode(members)


def read(expected: Digest, encoded: bytes, step: int) -> list[bytes]:
    reader = bundle.Reader(expected)
    found = []
    for start in range(0, len(encoded), step):
        for ref, plain in reader.feed(encoded[start : start + step]):
            assert ref == ref_of(plain)
            found.append(plain)
    reader.finish()
    return found


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 400))
def test_members_come_out_in_order_however_the_bytes_arrive(plains: list[bytes], step: int) -> None:
    expected, encoded = bundle_of(plains)
    assert read(expected, encoded, step) == plains


def test_a_member_can_be_used_before_the_rest_has_arrived() -> None:
    expected, encoded = bundle_of([b"first", b"second"])
    reader = bundle.Reader(expected)
    assert [plain for _, plain in reader.feed(encoded[:-1])] == [b"first"]
    with pytest.raises(FormatError, match="after 1 of 2 members"):
        reader.finish()


@given(st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=4), st.data())
def test_a_damaged_bundle_gives_no_wrong_member(plains: list[bytes], data: st.DataObject) -> None:
    expected, encoded = bundle_of(plains)
    damaged = bytearray(encoded)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert read(expected, bytes(damaged), 64) == plains
    except BadData:
        return


def test_other_members_than_the_name_says_are_refused() -> None:
    expected, _ = bundle_of([b"a", b"b"])
    _, other = bundle_of([b"a", b"c"])
    with pytest.raises(FormatError, match="other members"):
        read(expected, other, 64)


def test_a_member_whose_frame_holds_other_bytes_is_refused() -> None:
    ref = ref_of(b"right")
    encoded = bundle.encode([(ref, codec.encode(b"wrong"))])
    with pytest.raises(DigestMismatch):
        read(bundle.name([ref.digest]), encoded, 64)


def test_absurd_claims_are_refused_before_the_bytes_are_awaited() -> None:
    header = bundle._HEADER.pack(bundle.MAGIC, bundle.MAX_MEMBERS + 1)
    with pytest.raises(FormatError, match="members, over"):
        list(bundle.Reader(ref_of(b"").digest).feed(header))
    member = bundle._HEADER.pack(bundle.MAGIC, 1) + bundle._MEMBER.pack(bytes(32), 1 << 40, 100)
    with pytest.raises(FormatError, match="claims 100 bytes"):
        list(bundle.Reader(ref_of(b"").digest).feed(member))
    with pytest.raises(FormatError, match="magic"):
        list(bundle.Reader(ref_of(b"").digest).feed(b"x" * 8))


def test_a_member_that_makes_more_than_it_claims_fills_no_memory() -> None:
    ref = ref_of(bytes(3 << 20))
    encoded = bundle.encode([(ref, rle_bomb(20_000, ref.size))])

    def opened() -> None:
        with pytest.raises(FormatError, match="more than the 3145728 bytes it claims"):
            read(bundle.name([ref.digest]), encoded, len(encoded))

    assert peak_of(opened) < 5 << 20


def test_nothing_is_decoded_that_is_not_listed() -> None:
    """A bundle's second member is valid, but not in the list. Decoding it would take 64 MiB of memory."""
    plains = [b"listed", bytes(64 << 20)]
    expected, encoded = bundle_of(plains)

    def opened() -> None:
        for members in ([ref_of(b"listed")], [ref_of(b"listed"), ref_of(b"other")]):
            reader = bundle.Reader(expected, members)
            found = reader.feed(encoded)
            assert next(found)[1] == b"listed"
            with pytest.raises(FormatError, match="too many"):
                next(found)

    assert peak_of(opened) < 1 << 20


class GivenUp(Exception):
    pass


def test_whoever_waits_is_asked_between_members() -> None:
    expected, encoded = bundle_of([b"first", b"second", b"third"])
    answers = iter([None, None, GivenUp()])

    def check() -> None:
        if (answer := next(answers)) is not None:
            raise answer

    reader = bundle.Reader(expected, None, check)
    with pytest.raises(GivenUp):
        list(reader.feed(encoded))
