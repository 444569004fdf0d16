"""The vfs without a kernel: inode numbers, names, snapshots, and the requests for objects that are not in
memory."""

import errno
import stat
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core import profile
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef, ref_of, sha256
from lazyfs.vfs import shared_files, slots
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT, unpack
from lazyfs.vfs.missing_objects import Need, NeedRepository
from lazyfs.vfs.operator_xattrs import START, get_xattr
from lazyfs.vfs.revision_switch import switch
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.content import read_content
from tests.support.images import Objects, file, folder, folder_of, image, live, number, packed, shown
from tests.support.images import tree as directory_of


def walk(tree: Tree, at: int = ROOT, path: bytes = b"") -> Iterator[tuple[bytes, int]]:
    for name, attributes in tree.listing(at):
        inner = path + b"/" + name if path else name
        yield inner, attributes.number
        if stat.S_ISDIR(attributes.mode):
            yield from walk(tree, attributes.number, inner)


names = st.text("abc", min_size=1, max_size=3)
specs = st.recursive(
    st.binary(max_size=4), lambda inner: st.dictionaries(names, inner, max_size=5), max_leaves=30
).map(lambda spec: spec if isinstance(spec, dict) else {"only": spec})


@given(specs, st.integers(2, 12))
def test_every_number_leads_back_to_its_entry_however_catalogs_nest(
    spec: dict[str, object], split: int
) -> None:
    objects = Objects()
    tree = shown(objects, live(objects, {"image": image(objects, spec, split=split)}))
    found = dict(walk(tree))
    assert len(set(found.values())) == len(found)
    for path, at in found.items():
        assert tree.path_of(at) == path
        name = path.rpartition(b"/")[2]
        above = found.get(path.rpartition(b"/")[0], ROOT)
        looked = tree.lookup(above, name)
        assert looked is not None
        assert looked == tree.getattr(at)
        if stat.S_ISDIR(looked.mode):
            assert tree.parent(at) == above


@given(st.data())
@settings(max_examples=50)
def test_reads_are_the_bytes_of_the_file(data: st.DataObject) -> None:
    plain = data.draw(st.binary(max_size=40_000))
    objects = Objects()
    root = live(objects, {"image": image(objects, {"f": file(objects, plain, shift=12)})})
    tree = shown(objects, root)
    at = number(tree, "image/f")
    offset, length = data.draw(st.integers(0, 50_000)), data.draw(st.integers(0, 50_000))
    assert read_content(tree, at, offset, length) == plain[offset : offset + length]


def test_a_missing_name_is_none_and_wrong_questions_have_their_errno() -> None:
    objects = Objects()
    tree = shown(objects, live(objects, {"image": image(objects, {"f": b"1", "l": "f", "d": {}})}))
    assert tree.lookup(ROOT, b"nothing") is None
    for expected, call in (
        (errno.ENAMETOOLONG, lambda: tree.lookup(ROOT, b"x" * 256)),
        (errno.ENOTDIR, lambda: tree.lookup(number(tree, "image/f"), b"x")),
        (errno.ENOTDIR, lambda: list(tree.listing(number(tree, "image/f")))),
        (errno.EINVAL, lambda: tree.readlink(number(tree, "image/f"))),
        (errno.EISDIR, lambda: read_content(tree, number(tree, "image/d"))),
        (errno.EINVAL, lambda: read_content(tree, number(tree, "image/l"))),
        (errno.ESTALE, lambda: tree.getattr(12345 << 32)),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
            call()
        assert caught.value.errno == expected


def test_hardlinks_share_a_number_in_one_catalog_and_across() -> None:
    objects = Objects()
    near, far = file(objects, b"near"), file(objects, b"far")
    far_folder = {f"f{i}": b"x" for i in range(30)} | {"far": far}
    spec = {"a": {"near": near}, "near": near, "far": far, "nested": far_folder}
    tree = shown(objects, live(objects, {"image": image(objects, spec, split=20)}))
    assert number(tree, "image/near") == number(tree, "image/a/near")
    spread = number(tree, "image/nested/far")
    assert spread == number(tree, "image/far")
    assert unpack(spread)[0] == unpack(number(tree, "image"))[0]
    assert tree.getattr(spread).nlink == 2
    assert read_content(tree, spread) == b"far"
    assert tree.path_of(spread) == b"image/far"


def test_a_spread_hardlink_in_a_nested_catalog_is_found_through_it() -> None:
    objects = Objects()
    link = file(objects, b"both")
    spec = {name: {"deep": {f"f{i}": b"x" for i in range(30)} | {"link": link}} for name in ("one", "two")}
    tree = shown(objects, live(objects, {"image": image(objects, spec, split=20)}))
    at = number(tree, "image/two/deep/link")
    tree.parsed.clear()
    assert read_content(tree, at) == b"both"


def test_one_catalog_at_two_paths_has_two_sets_of_numbers() -> None:
    objects = Objects()
    same = image(objects, {"d": {"f": b"1"}})
    tree = shown(objects, live(objects, {"one": same, "two": same}))
    assert number(tree, "one/d") != number(tree, "two/d")
    assert len(tree.parsed) == 2  # the root's catalog, and one catalog for both


def test_what_is_missing_is_asked_for_and_enough_when_brought() -> None:
    objects = Objects()
    plain = b"x" * 4096 + b"y" * 4096 + b"z"
    root = live(objects, {"image": image(objects, {"big": file(objects, plain, shift=12)})})
    tree = shown(objects, root)
    objects.here = {root.ref.digest}
    above = number(tree, "image")
    fetched: dict[Digest, bytes] = {}
    with pytest.raises(Need) as need:
        tree.lookup(above, b"big")
    fetched |= {ref.digest: objects[ref.digest] for ref in need.value.refs}
    big = tree.lookup(above, b"big", fetched)
    assert big is not None
    tree.hold(big.number)
    rounds = []
    while True:
        try:
            data = read_content(tree, big.number, 0, 10_000, fetched)
            break
        except Need as more:
            rounds.append(len(more.refs))
            fetched |= {ref.digest: objects[ref.digest] for ref in more.refs}
    assert data == plain
    assert rounds == [1, 3]  # first the chunk list, then all chunks together


def test_a_slot_lives_until_the_kernel_has_forgotten_all_its_numbers() -> None:
    objects = Objects()
    spec = {"sub": {f"f{i}": b"x" for i in range(30)}}
    tree = shown(objects, live(objects, {"image": image(objects, spec, split=20)}))
    before = len(tree.slots)
    numbers = [number(tree, path) for path in ("image", "image/sub", "image/sub/f3")]
    for at, given_out in zip(reversed(numbers), (1, 2, 3), strict=True):
        assert tree.getattr(at)
        tree.forget(at, given_out)
    tree.slots.sweep("test")
    assert len(tree.slots) == before
    with pytest.raises(OSError, match="Stale"):
        tree.getattr(numbers[2])
    assert number(tree, "image/sub/f3") != numbers[2]


def test_a_slot_that_was_forgotten_waits_until_the_next_revision() -> None:
    objects = Objects()
    spec = {"sub": {f"f{i}": b"x" for i in range(30)}}
    tree = shown(objects, live(objects, {"image": image(objects, spec, split=20)}))

    def visit(*, revision_comes: bool = False) -> int:
        at = number(tree, "image/sub/f3")
        if revision_comes:
            tree.slots.sweep("test")
        for slot in tree.slots:
            if slot is not tree.slots.root:
                tree.forget(slot.number << 32, slot.count)
        return at

    before = len(tree.slots)
    at = visit()
    assert tree.getattr(at)
    assert visit(revision_comes=True) == at
    assert len(tree.slots) == before
    assert visit() != at


def test_slots_that_wait_are_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "IDLE", 5)
    objects = Objects()
    tree = shown(objects, live(objects, {f"image{i}": image(objects, {"f": b"%d" % i}) for i in range(20)}))
    assert tree.lookup(ROOT, b"nothing") is None  # allots the folder's slots
    before = len(tree.slots)
    seen = {}
    for i in [*range(20), 15]:
        seen[i] = number(tree, f"image{i}/f")
        tree.forget(seen[i], 2)
    assert len(tree.slots) == before + 5
    for i in (16, 15, 17, 18, 19):
        assert number(tree, f"image{i}/f") == seen[i]
    assert number(tree, "image14/f") != seen[14]


def test_slots_and_shared_files_of_one_repository_push_out_none_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: a walk through a large repository changed the inode numbers of files in its neighbours."""
    monkeypatch.setattr(slots, "IDLE", 5)
    monkeypatch.setattr(shared_files, "IDLE", 5)
    objects = Objects()
    tree = Tree(SlotTable())
    tree.show_site(("small", "large"))
    for name, images in (("small", 3), ("large", 30)):
        spec = {
            f"i{i}": image(objects, {"f": b"%d" % i, "g": b"%03d" % i * (32 << 10)}) for i in range(images)
        }
        tree.show_repository(Repository(name, objects, live(objects, spec).ref, 1))

    def visit(name: str, images: int) -> list[int]:
        found = []
        for one in range(images):
            for path in (f"{name}/i{one}/f", f"{name}/i{one}/g"):
                found.append(number(tree, path))
                for at in (number(tree, f"{name}/i{one}"), number(tree, name), found[-1]):
                    tree.forget(at, 3)
        return found

    before = visit("small", 3)
    visit("large", 30)
    assert visit("small", 3) == before


def test_a_new_revision_of_one_repository_leaves_the_numbers_of_another() -> None:
    """The kernel has forgotten names of the repository `quiet`, and looks them up again after a new revision
    of `busy`. Regression: the files of `quiet` then had other inode numbers."""
    objects = Objects()
    tree = Tree(SlotTable())
    tree.show_site(("quiet", "busy"))
    held = image(objects, {"f": b"1", "large": b"L" * (64 << 10), "held": b"H" * (64 << 10)})
    for name in ("quiet", "busy"):
        tree.show_repository(Repository(name, objects, live(objects, {"a": held}).ref, 1))

    def visit(name: str) -> list[int]:
        paths = [f"{name}/a/f", f"{name}/a/large"]
        found = [number(tree, path) for path in paths]
        for at in (*found, number(tree, f"{name}/a"), number(tree, name)):
            tree.forget(at, 9)
        return found

    before, own = visit("quiet"), visit("busy")
    number(tree, "quiet/a/held")
    for revision in (2, 3):
        tag = image(objects, {"f": b"%d" % revision})
        assert switch(tree, "busy", live(objects, {"a": held, "b": tag}).ref, revision)
        assert number(tree, "busy/b/f")
        assert visit("quiet") == before
    assert visit("busy") != own


def test_shared_files_leave_each_repository_its_share() -> None:
    objects = Objects()
    tree = Tree(SlotTable())
    tree.show_site(("greedy", "late"))
    for name, count in (("greedy", 40), ("late", 6)):
        spec = {"a": image(objects, {f"f{i}": b"%03d" % i * (32 << 10) for i in range(count)})}
        tree.show_repository(Repository(name, objects, live(objects, spec).ref, 1))
    tree.shared_files.most = 20
    greedy = [number(tree, f"greedy/a/f{i}") for i in range(40)]
    shared = [at for at in greedy if tree.shared_files.get(at)]
    assert len(shared) == 16
    late = [number(tree, f"late/a/f{i}") for i in range(6)]
    assert [tree.shared_files.get(at) is not None for at in late] == [True] * 4 + [False] * 2
    tree.forget(shared[0], 9)
    tree.shared_files.sweep(tree.slots, "greedy")
    late += [number(tree, "late/a/f4"), number(tree, "late/a/f5")]
    assert [tree.shared_files.get(at) is not None for at in late[6:]] == [False, False], "4 of 20, 1 free"
    for at in shared[1:4]:
        tree.forget(at, 9)
    tree.shared_files.sweep(tree.slots, "greedy")
    assert tree.shared_files.get(number(tree, "late/a/f4")) is not None


def test_more_forgets_than_lookups_are_harmless() -> None:
    objects = Objects()
    tree = shown(objects, live(objects, {"image": image(objects, {"f": b"1"})}))
    at = number(tree, "image/f")
    tree.forget(at, 1 << 40)
    tree.forget(at, 1)
    tree.forget(ROOT, 1 << 40)
    tree.forget(987 << 32, 5)
    assert read_content(tree, number(tree, "image/f")) == b"1"


def test_a_nested_slot_keeps_the_one_above() -> None:
    objects = Objects()
    spec = {"sub": {f"f{i}": b"x" for i in range(30)}}
    tree = shown(objects, live(objects, {"image": image(objects, spec, split=20)}))
    outer, inner = number(tree, "image"), number(tree, "image/sub/f3")
    tree.forget(outer, 3)
    assert tree.parent(unpack(inner)[0] << 32) == outer
    assert tree.getattr(outer)


def test_listing_goes_on_where_it_stopped() -> None:
    objects = Objects()
    tree = shown(objects, live(objects, {"image": image(objects, {f"f{i:03}": b"" for i in range(100)})}))
    at = number(tree, "image")
    whole = [child.name for child in tree.listing(at)]
    assert [child.name for child in tree.listing(at, 60)] == whole[60:]
    assert list(tree.listing(at, 100)) == []
    assert list(tree.listing(at, 1 << 40)) == []


def test_large_equal_files_of_two_images_share_one_number() -> None:
    objects = Objects()
    large, small = b"L" * (64 << 10), b"s" * 100
    one = image(objects, {"lib": {"large": large, "small": small, "copy": large}, "x": b"1"})
    two = image(objects, {"lib": {"large": large, "small": small}, "x": b"2"})
    other_mode = image(objects, {"lib": {"large": file(objects, large, mode=0o755)}})
    linked = file(objects, large)
    links = image(objects, {"lib": {"large": linked, "again": linked}})
    tree = shown(objects, live(objects, {"one": one, "two": two, "three": other_mode, "four": links}))
    shared = number(tree, "one/lib/large")
    assert number(tree, "two/lib/large") == shared
    assert number(tree, "one/lib/copy") != shared
    assert number(tree, "one/lib/small") != number(tree, "two/lib/small")
    assert number(tree, "three/lib/large") != shared
    assert number(tree, "four/lib/large") != shared
    assert read_content(tree, shared) == large
    tree.forget(shared, 1)
    assert read_content(tree, shared) == large
    tree.forget(shared, 1)
    assert number(tree, "two/lib/large") == shared
    tree.forget(shared, 1)
    tree.shared_files.sweep(tree.slots, "test")
    assert tree.shared_files.get(shared) is None


def test_a_file_that_images_share_is_said_to_be_of_none_of_them() -> None:
    objects = Objects()
    one = image(objects, {"lib": {"large": b"L" * (64 << 10), "small": b"s"}})
    tree = shown(objects, live(objects, {"one": one}))
    small, large = number(tree, "one/lib/small"), number(tree, "one/lib/large")
    assert get_xattr(tree, small, b"user.image") == b"one"
    assert get_xattr(tree, small, b"user.catalog") == one.ref.digest.hex().encode()
    assert get_xattr(tree, large, b"user.image") is None
    assert get_xattr(tree, large, b"user.catalog") is None
    assert get_xattr(tree, large, b"user.path") == b"/lib/large"
    assert get_xattr(tree, small, b"user.path") == b"one/lib/small"
    assert get_xattr(tree, large, b"user.repository") == b"test"


def test_equal_files_share_one_number_in_whichever_packs_they_lie() -> None:
    objects = Objects()
    large = b"L" * (64 << 10)
    one = image(objects, packed(objects, {"a": b"before", "large": large}))
    two = image(objects, packed(objects, {"a": b"another", "large": large}))
    own = image(objects, {"large": large})
    other = image(objects, packed(objects, {"large": b"M" * (64 << 10)}))
    tree = shown(objects, live(objects, {"one": one, "two": two, "own": own, "other": other}))
    shared = number(tree, "one/large")
    assert [number(tree, f"{image}/large") for image in ("two", "own")] == [shared, shared]
    assert number(tree, "other/large") != shared
    assert read_content(tree, shared) == large


def test_small_files_are_read_from_their_packs() -> None:
    objects = Objects()
    files = {f"f{number}": b"%d" % number * (number + 1) for number in range(20)}
    some = packed(objects, dict(list(files.items())[:12])) | packed(objects, dict(list(files.items())[12:]))
    tree = shown(objects, live(objects, {"image": image(objects, some)}))
    for name, data in files.items():
        at = number(tree, f"image/{name}")
        assert read_content(tree, at) == data
        for start, length in ((0, 1), (1, 100), (len(data) - 1, 1), (len(data), 5), (1 << 40, 5)):
            assert read_content(tree, at, start, length) == data[start : start + length]
        assert get_xattr(tree, at, b"user.digest") == b"sha256:" + sha256(data).hex().encode()
        assert get_xattr(tree, at, b"user.chunks") == b"1"


def test_a_packed_file_with_names_in_several_catalogs_is_read_by_each() -> None:
    objects = Objects()
    many = packed(objects, {f"f{number:02}": b"%02d" % number for number in range(30)})
    linked = packed(objects, {"first": b"first", "linked": b"linked"})["linked"]
    spec = {"a": {**many, "x": linked}, "b": {**many, "y": linked}}
    tree = shown(objects, live(objects, {"image": image(objects, spec, split=20)}))
    assert number(tree, "image/a/x") == number(tree, "image/b/y")
    assert read_content(tree, number(tree, "image/b/y")) == b"linked"
    assert tree.getattr(number(tree, "image/a/x")).nlink == 2


def test_shared_files_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_files, "IDLE", 5)
    objects = Objects()
    spec = {f"large{i}": b"%03d" % i * (32 << 10) for i in range(20)}
    tree = shown(objects, live(objects, {"one": image(objects, spec)}))
    seen = [number(tree, f"one/large{i}") for i in range(20)]
    for at in seen:
        tree.forget(at, 1)
    assert len(tree.shared_files) == 5
    assert [number(tree, f"one/large{i}") for i in range(15, 20)] == seen[15:]
    assert number(tree, "one/large3") not in seen


def test_files_beyond_the_bound_of_shared_ones_have_numbers_of_their_own() -> None:
    objects = Objects()
    files = {f"large{index}": b"%d" % index * 100_000 for index in range(4)}
    same = {name: image(objects, files | {"own": name.encode()}) for name in ("one", "two")}
    tree = shown(objects, live(objects, same))
    tree.shared_files.most = 2
    one = [number(tree, f"one/large{index}") for index in range(4)]
    two = [number(tree, f"two/large{index}") for index in range(4)]
    assert [mine == other for mine, other in zip(one, two, strict=True)] == [True, True, False, False]
    assert len(tree.shared_files) == 2
    assert [read_content(tree, found) for found in two] == list(files.values())
    assert [number(tree, f"one/large{index}") for index in range(4)] == one


def test_nothing_lies_below_a_shared_file() -> None:
    objects = Objects()
    tree = shown(objects, live(objects, {"one": image(objects, {"large": b"L" * (64 << 10)})}))
    with pytest.raises(OSError, match="Not a directory"):
        tree.lookup(number(tree, "one/large"), b"x")


def test_overlay_marks_are_shown_for_users_too() -> None:
    objects = Objects()
    marked = folder(xattrs=((b"trusted.overlay.opaque", b"y"), (b"user.overlay.origin", b"own")))
    both = file(objects, b"1", xattrs=((b"trusted.overlay.x", b"t"), (b"user.overlay.x", b"u")))
    tree = shown(objects, live(objects, {"image": image(objects, {"d": marked, "f": both})}))
    assert tree.xattrs(number(tree, "image/d"))[b"user.overlay.opaque"] == b"y"
    assert tree.xattrs(number(tree, "image/f"))[b"user.overlay.x"] == b"u"


def test_a_site_opens_repositories_when_they_are_first_looked_up() -> None:
    objects = Objects()
    tree = Tree(SlotTable())
    tree.show_site(("one.example", "two.example"))
    assert list(tree.listing(ROOT)) == []
    assert tree.lookup(ROOT, b"three.example") is None
    with pytest.raises(NeedRepository, match=r"one\.example"):
        tree.lookup(ROOT, b"one.example")
    root = live(objects, {"image": image(objects, {"f": b"1"})})
    tree.show_repository(Repository("one.example", objects, root.ref, 1))
    assert read_content(tree, number(tree, "one.example/image/f")) == b"1"
    assert [child.name for child in tree.listing(ROOT)] == [b"one.example"]
    assert tree.parent(number(tree, "one.example")) == ROOT
    assert tree.getattr(ROOT).nlink == 2


def test_a_repository_whose_root_is_itself_an_image() -> None:
    objects = Objects()
    link = file(objects, b"2")
    spec = {"d": {"f": b"1", "l": link}, "l": link, "n": {f"f{i}": b"x" for i in range(30)}}
    tree = shown(objects, image(objects, spec, split=20))
    assert read_content(tree, number(tree, "d/f")) == b"1"
    assert number(tree, "d/l") == number(tree, "l")
    assert tree.parent(number(tree, "d")) == ROOT
    assert tree.parent(number(tree, "n")) == ROOT
    found = dict(walk(tree))
    assert all(tree.path_of(at) == path for path, at in found.items() if at != found[b"l"])


def test_devices() -> None:
    objects = Objects()
    null = Inode(stat.S_IFCHR | 0o666, detail=1 << 32 | 3)
    tree = shown(objects, live(objects, {"image": image(objects, {"null": null})}))
    assert tree.getattr(number(tree, "image/null")).rdev == 0x103


def test_looking_an_image_up_tells_of_it_and_its_profile_and_nothing_shows_the_profile() -> None:
    objects = Objects()
    one, hinted = image(objects, {"f": b"1", "d": {"x": b"x"}}), ref_of(b"a profile")
    inode = folder_of(one)
    inode.xattrs = (profile.hint(hinted), (b"user.own", b"1"))
    root = live(objects, {"lib": {"a:1": inode, "b:1": one}})
    told: list[tuple[ObjectRef, ObjectRef | None, str]] = []
    tree = Tree(SlotTable())

    def tell(top: ObjectRef, ref: ObjectRef | None, program: str = "") -> None:
        told.append((top, ref, program))

    tree.show_repository(Repository("test", objects, root.ref, 1, on_enter=tell))
    number(tree, "lib/b:1/d")
    assert len(list(tree.listing(number(tree, "lib")))) == 2
    assert told == [(one.ref, None, "")]
    top = number(tree, "lib/a:1")
    assert told[1:] == [(one.ref, hinted, "")]
    assert tree.xattrs(top) == {b"user.own": b"1"}
    for place in ("lib", "lib/b:1", "lib/a:1/f", "lib/a:1/d", "lib/a:1"):
        assert get_xattr(tree, number(tree, place), START + b"python3") is None
    starts = [one for one in told if one[2]]
    assert starts == [(one.ref, None, "python3"), (one.ref, hinted, "python3")], "told of images' roots only"


def test_an_images_own_attribute_of_a_profiles_name_is_shown() -> None:
    """The tree hides the attribute only on an entry of a live folder. An attribute of that name in an image
    is shown, also on a directory that has its own catalog."""
    objects = Objects()
    inner = directory_of(objects, {f"f{at}": b"x" for at in range(30)})
    inner.xattrs = own = ((profile.HINT, b"the image's"),)
    tree = shown(objects, live(objects, {"a:1": image(objects, {"n": inner, "f": b"1"}, split=20)}))
    at = number(tree, "a:1/n")
    assert tree.entry(at).nested
    assert tree.xattrs(at) == dict(own)
