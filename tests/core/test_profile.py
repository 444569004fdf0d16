"""Profiles: an encoded profile is read back, and a wrong one is refused. A hint (an image's reference to its
profile) is valid only in a live folder, which changes with each revision."""

import stat
from operator import attrgetter

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lazyfs.core import bounds, profile
from lazyfs.core.catalog.entry import LIVE, NESTED, Entry
from lazyfs.core.digest import Digest, ObjectRef, ref_of
from lazyfs.core.errors import FormatError
from lazyfs.core.profile import HotPack, Origin, Profile, Program

_digest = attrgetter("digest")
DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)
FILES = st.builds(ObjectRef, DIGESTS, st.integers(1, bounds.PACK // 8))
OTHERS = st.builds(ObjectRef, DIGESTS, st.integers(1, bounds.OBJECT))


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    packs = []
    for digest, files in draw(
        st.dictionaries(DIGESTS, st.lists(FILES, min_size=1, max_size=8, unique_by=_digest), max_size=5)
    ).items():
        packs.append(HotPack(ObjectRef(digest, profile.total(files)), tuple(files)))
    packed = {pack.ref.digest for pack in packs}
    others = draw(st.lists(OTHERS, min_size=1, max_size=6, unique_by=_digest))
    refs = [pack.ref for pack in packs] + [ref for ref in others if ref.digest not in packed]
    assume(refs)
    lists = st.lists(st.sampled_from(refs), min_size=1, unique=True).map(tuple)
    names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
    programs = draw(st.dictionaries(names, lists, max_size=4))
    made = tuple(Program(path, objects) for path, objects in programs.items())
    return Profile(draw(st.sampled_from(Origin)), tuple(packs), made)


@given(profiles())
def test_what_is_encoded_comes_back(made: Profile) -> None:
    assert profile.decode(profile.encode(made)) == made


@given(profiles(), st.data())
def test_other_bytes_are_another_profile_or_none(made: Profile, data: st.DataObject) -> None:
    plain = bytearray(profile.encode(made))
    plain[data.draw(st.integers(0, len(plain) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert profile.decode(bytes(plain)) != made
    except FormatError:
        pass


@given(profiles())
def test_places_follow_one_another_and_fill_their_pack(made: Profile) -> None:
    for pack in made.packs:
        end = 0
        for start, file in pack.places():
            assert start == end
            end = start + file.size
        assert end == pack.ref.size


@given(st.binary(max_size=200))
def test_any_bytes_are_a_profile_or_refused(plain: bytes) -> None:
    try:
        profile.decode(plain)
    except FormatError:
        pass


def file(size: int, digest: int = 0) -> bytes:
    return digest.to_bytes(32, "little") + size.to_bytes(4, "little")


def other(size: int, digest: int = 0) -> bytes:
    return digest.to_bytes(32, "little") + size.to_bytes(8, "little")


NAME = bytes(31) + b"1"
ONE = [[NAME, file(10)]]
NUMBER = bytes(4)


@pytest.mark.parametrize(
    "packed",
    [
        None,
        [4, "recorded", [], b"", []],
        [3, "dreamt", [], b"", []],
        [3, "recorded", [], b"", [], 0],
        [3, "recorded", ONE, b""],
        [3, "recorded", [[NAME, b""]], b"", []],
        [3, "recorded", [[NAME, file(10)[:-1]]], b"", []],
        [3, "recorded", [[NAME[:-1], file(10)]], b"", []],
        [3, "recorded", [[NAME, file(0)]], b"", []],
        [3, "recorded", [[NAME, file(bounds.PACK + 1)]], b"", []],
        [3, "recorded", [[NAME, file(bounds.PACK // 2) * 3]], b"", []],
        [3, "recorded", ONE * 2, b"", []],
        [3, "recorded", [[NAME, file(1) * (bounds.HOT_FILES + 1)]], b"", []],
        [
            3,
            "recorded",
            [[bytes([1, at % 256, at // 256] + [0] * 29), file(1)] for at in range(4097)],
            b"",
            [],
        ],
        [3, "recorded", [], other(0), []],
        [3, "recorded", [], other(bounds.OBJECT + 1), []],
        [3, "recorded", [], other(1)[:-1], []],
        [3, "recorded", [], other(1) * 2, []],
        [3, "recorded", [], b"".join(other(1, at) for at in range(bounds.PROFILE_OBJECTS + 1)), []],
        [3, "recorded", ONE, b"", [["a", b""]]],
        [3, "recorded", ONE, b"", [["a", NUMBER[:-1]]]],
        [3, "recorded", ONE, b"", [["a", b"\1\0\0\0"]]],
        [3, "recorded", ONE, other(1), [["a", NUMBER * 2]]],
        [3, "recorded", ONE, b"", [["a", NUMBER], ["a", NUMBER]]],
        [3, "recorded", ONE, b"", [["a" * (bounds.PATH + 1), NUMBER]]],
        [3, "recorded", ONE, b"", [["a\0b", NUMBER]]],
        [3, "recorded", ONE, b"", [[str(at), NUMBER] for at in range(bounds.PROGRAMS + 1)]],
    ],
)
def test_nonsense_is_refused(packed: object) -> None:
    with pytest.raises(FormatError):
        profile.decode(msgspec.msgpack.encode(packed))


def test_the_right_neighbour_of_that_nonsense_is_read() -> None:
    found = profile.decode(msgspec.msgpack.encode([3, "recorded", ONE, other(1), [["a", NUMBER]]]))
    assert found.of("a") == [ObjectRef(Digest(NAME), 10)]


def test_a_profile_of_an_earlier_version_lists_nothing() -> None:
    for packed in ([1, [[100, bytes(40)]]], [2, [], "guessed"]):
        assert profile.decode(msgspec.msgpack.encode(packed)).programs == ()


def test_nothing_is_listed_twice_whatever_its_size() -> None:
    """Regression: an object of 2 MB that was listed with 1 byte too counted as 1 byte of what is fetched on
    trust; and one file 65,536 times in a hot pack stopped the event loop for minutes."""
    file, ref = ObjectRef(Digest(NAME), 10), ref_of(b"x")
    twice = profile._Stored(3, Origin.RECORDED, [(ref.digest, b"".join([_packed(file)] * 2))], b"", [])
    with pytest.raises(FormatError, match="a file twice"):
        profile.decode(msgspec.msgpack.encode(twice))
    sizes = b"".join(profile._OBJECT.pack(file.digest, size) for size in (1, 1_990_000))
    with pytest.raises(FormatError, match="an object twice"):
        profile.decode(msgspec.msgpack.encode(profile._Stored(3, Origin.RECORDED, [], sizes, [])))


def _packed(file: ObjectRef) -> bytes:
    return profile._FILE.pack(*file)


def test_no_profile_is_written_that_readers_refuse() -> None:
    ref = ref_of(b"x")
    with pytest.raises(FormatError):
        profile.encode(Profile(Origin.RECORDED, (HotPack(ref, (ref_of(b"two"),)),), ()))
    with pytest.raises(FormatError):
        profile.encode(Profile(Origin.RECORDED, (), (Program("a", ()),)))


def test_a_program_has_its_own_list_and_an_unknown_one_all_of_them() -> None:
    refs = [ref_of(b"%d" % number) for number in range(4)]
    programs = (
        Program("/usr/bin/python3", (refs[0], refs[1])),
        Program("root", (refs[2], refs[0])),
        Program("", (refs[3],)),
    )
    made = Profile(Origin.RECORDED, (), programs)
    assert made.of("python3") == made.of("/usr/bin/python3") == made.of("usr/bin/python3") == refs[:2]
    assert made.of("/opt/bin/root") == [refs[2], refs[0]]
    assert made.of() == made.of("/bin/python3") == made.of("perl") == refs


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
