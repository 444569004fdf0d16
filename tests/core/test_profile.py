"""Profiles: an encoded profile is read back, a wrong one is refused, and a hint is valid only on an image in
a live folder."""

import stat

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import bounds, bundle, profile
from lazyfs.core.catalog.entry import LIVE, NESTED, Entry
from lazyfs.core.digest import Digest, ObjectRef, ref_of, sha256
from lazyfs.core.errors import FormatError

REFS = st.builds(
    ObjectRef,
    st.binary(min_size=32, max_size=32).map(Digest),
    st.integers(min_value=0, max_value=bundle.MAX_MEMBER_SIZE),
)
BUNDLES = st.builds(
    profile.Bundle,
    st.integers(min_value=1, max_value=profile.MAX_STORED),
    st.lists(REFS, min_size=1, max_size=20).map(tuple),
)


@given(st.lists(BUNDLES, max_size=10), st.sampled_from(profile.Origin))
def test_what_is_encoded_comes_back(bundles: list[profile.Bundle], origin: profile.Origin) -> None:
    encoded = profile.encode(bundles, origin)
    assert profile.decode(encoded) == bundles
    assert profile.origin_of(encoded) is origin


@given(st.lists(BUNDLES, min_size=1, max_size=3), st.data())
def test_other_bytes_are_another_profile_or_none(bundles: list[profile.Bundle], data: st.DataObject) -> None:
    plain = bytearray(profile.encode(bundles))
    plain[data.draw(st.integers(0, len(plain) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert profile.decode(bytes(plain)) != bundles
    except FormatError:
        pass


@pytest.mark.parametrize(
    "packed",
    [
        None,
        [2, []],
        [2, [], "recorded"],
        [1, [], "guessed"],
        [2, [], "dreamt"],
        [2, [], "guessed", 0],
        [1, [[0, bytes(40)]]],
        [1, [[profile.MAX_STORED + 1, bytes(40)]]],
        [1, [[100, b""]]],
        [1, [[100, bytes(41)]]],
        [1, [[100, bytes(32) + (bundle.MAX_MEMBER_SIZE + 1).to_bytes(8, "little")]]],
        [1, [[100, bytes(40 * (bundle.MAX_MEMBERS + 1))]]],
        [1, [[100, bytes(40)]] * (bounds.BUNDLES + 1)],
        [1, [[100, bytes(40 * (bounds.MEMBERS // 2 + 1))]] * 2],
    ],
)
def test_nonsense_is_refused(packed: object) -> None:
    with pytest.raises(FormatError):
        profile.decode(msgspec.msgpack.encode(packed))


def test_a_bundle_is_named_by_its_members() -> None:
    refs = tuple(ref_of(b"%d" % number) for number in range(3))
    assert profile.Bundle(1, refs).name == sha256(b"".join(ref.digest for ref in refs))


def test_only_an_image_in_a_folder_leads_to_a_profile() -> None:
    ref = ref_of(b"profile")
    xattrs = ((b"user.a", b"1"), profile.hint(ref))
    mode = stat.S_IFDIR | 0o755
    image = Entry(b"n", mode, 0, 0, 0, 4096, bytes(32), 100, flags=NESTED, xattrs=xattrs)
    assert profile.hinted(image) == ref
    assert profile.without_hint(image.xattrs) == xattrs[:1]
    change = msgspec.structs.replace
    assert profile.hinted(change(image, flags=NESTED | LIVE)) is None
    assert profile.hinted(change(image, flags=0)) is None
    assert profile.hinted(change(image, xattrs=xattrs[:1])) is None
    assert profile.hinted(change(image, xattrs=((profile.HINT, b"short"),))) is None
    too_large = profile.hint(ObjectRef(ref.digest, profile.MAX_SIZE + 1))
    assert profile.hinted(change(image, xattrs=(too_large,))) is None
