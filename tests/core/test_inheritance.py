"""A new image inherits what starts of the old image touched. Files are matched by path, by content, or by a
name that differs only in its version."""

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.inheritance import FileInImage, ImageContent, Part, inherited

CHUNK = 1000


def file(path: str, content: str, *objects: str) -> FileInImage:
    """Returns a file that is stored in these objects, with CHUNK bytes in each."""
    return FileInImage(path.encode(), content.encode(), tuple(Part(ref(name), CHUNK) for name in objects))


def ref(name: str, size: int = CHUNK) -> ObjectRef:
    return ObjectRef(sha256(name.encode()), size)


def image(*files: FileInImage, **catalogs: str) -> ImageContent:
    return ImageContent(list(files), {path.encode(): ref(name) for path, name in catalogs.items()})


def names(found: list[Digest], *known: str) -> list[str]:
    by_digest = {sha256(name.encode()): name for name in known}
    return [by_digest[digest] for digest in found]


def touched(*objects: str) -> list[Digest]:
    return [sha256(name.encode()) for name in objects]


def test_a_changed_file_is_found_at_its_path() -> None:
    old = image(file("lib/a", "a1", "a1"), file("lib/b", "b1", "b1"), file("lib/c", "c", "c"))
    new = image(file("lib/a", "a2", "a2"), file("lib/b", "b2", "b2"), file("lib/c", "c", "c"))
    assert names(inherited(touched("c", "a1"), old, new), "a2", "b2", "c") == ["c", "a2"]


def test_moved_content_is_followed_and_what_is_gone_is_left_out() -> None:
    old = image(file("old/a", "a", "a"), file("old/b", "b", "b"))
    new = image(file("new/a", "a", "moved"), file("new/c", "c", "c"))
    assert names(inherited(touched("b", "a"), old, new), "moved", "c") == ["moved"]


def test_a_file_with_another_version_in_its_name_is_its_successor_unless_two_are() -> None:
    old = image(file("lib/libx.so.1.2", "x1", "x1"), file("x-1.2.dist-info/METADATA", "m1", "m1"))
    later = file("lib/libx.so.1.10.3", "x2", "x2"), file("x-2.dist-info/METADATA", "m2", "m2")
    assert names(inherited(touched("m1", "x1"), old, image(*later)), "x2", "m2") == ["m2", "x2"]
    two = image(*later, file("lib/libx.so.7", "x3", "x3"))
    assert names(inherited(touched("x1", "m1"), old, two), "x2", "x3", "m2") == ["m2"]


def test_a_library_beside_its_successor_is_none() -> None:
    """libx.so.2 exists in both images, so it is the successor of the old libx.so.2 only, and not of
    libx.so.1."""
    old = image(file("libx.so.1", "1", "1"), file("libx.so.2", "2", "2"))
    new = image(file("libx.so.2", "2b", "2b"))
    assert inherited(touched("1"), old, new) == []


def test_the_same_place_of_a_changed_file_comes_and_an_end_stands_for_an_end() -> None:
    old = image(file("f", "1", "a", "b", "c", "d"))
    new = image(file("f", "2", "A", "B", "C", "D", "E"))
    assert names(inherited(touched("b"), old, new), *"ABCDE") == ["B"]
    assert names(inherited(touched("d"), old, new), *"ABCDE") == ["D", "E"]
    short = image(file("f", "2", "A", "B"))
    assert names(inherited(touched("c", "d", "a"), old, short), *"AB") == ["B", "A"]


def test_a_chunk_that_many_files_share_comes_for_one_of_them() -> None:
    files = [file(f"{at}", f"{at}", "zeros", f"own {at}") for at in range(20)]
    old = image(file("1", "other", "old"), *files[2:])
    assert sha256(b"zeros") in inherited(touched("old"), old, image(*files))


def test_catalogs_are_found_at_their_paths() -> None:
    old, new = image(usr="1", gone="2"), image(usr="3", other="4")
    assert names(inherited(touched("2", "1"), old, new), "3", "4") == ["3"]


PATHS = st.sampled_from(["a", "b", "c1", "c2", "d/a", "d/b.1.2"])
OBJECTS = st.sampled_from(["p", "q", "r", "s"])
FILES = st.dictionaries(PATHS, st.tuples(st.sampled_from("123"), st.lists(OBJECTS, max_size=3)))
IMAGES = FILES.map(
    lambda files: image(*(file(path, content, *parts) for path, (content, parts) in files.items()))
)


@given(IMAGES, IMAGES, st.lists(OBJECTS))
def test_only_objects_of_the_new_image_come_each_once(
    old: ImageContent, new: ImageContent, objects: list[str]
) -> None:
    found = inherited(touched(*objects), old, new)
    assert len(set(found)) == len(found)
    assert set(found) <= {part.ref.digest for one in new.files for part in one.parts}
    if not old.files:
        assert found == []


@given(IMAGES, st.lists(OBJECTS, unique=True))
def test_the_same_image_inherits_all_that_was_touched(same: ImageContent, objects: list[str]) -> None:
    there = {part.ref.digest for one in same.files for part in one.parts}
    found = inherited(touched(*objects), same, same)
    assert set(touched(*objects)) & there <= set(found)
