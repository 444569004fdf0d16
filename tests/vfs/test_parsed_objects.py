"""Catalogs in memory: they are charged by their decoded size, large ones are decoded without the lock, and
each is found only under its own digest, size and namespace."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from lazyfs.core.catalog.reader import ENTRY_MEMORY
from lazyfs.core.digest import ObjectRef, sha256
from lazyfs.core.errors import FormatError
from lazyfs.fuse.file_read import FileRead
from lazyfs.vfs.catalogs import BYTES_AT_ONCE, ENTRIES_AT_ONCE, ParsedObjects
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import Need, NeedDecoding
from tests.support import hostile_catalogs as hostile
from tests.support.filesystems import FetchedObjects, filesystem_of
from tests.support.images import Objects, image, live, number, shown

T = TypeVar("T")
LARGE = ENTRIES_AT_ONCE + 1


def wide(count: int) -> dict[str, bytes]:
    return {f"{one:06}": b"" for one in range(count)}


def decoded(call: Callable[[], T]) -> tuple[T, int]:
    """Repeats the call until nothing has to be decoded. Returns the call's result, and the number of
    decodings that were done without the lock."""
    rounds = 0
    while True:
        try:
            return call(), rounds
        except NeedDecoding as need:
            rounds += 1
            need.decode()()


def test_a_large_directory_is_decoded_without_the_lock_and_once() -> None:
    objects = Objects()
    tree = shown(
        objects,
        live(objects, {"small": image(objects, wide(LARGE - 1)), "large": image(objects, wide(LARGE))}),
    )
    small, large = number(tree, "small"), number(tree, "large")
    assert len(list(tree.listing(small))) == LARGE - 1
    with pytest.raises(NeedDecoding):
        tree.listing(large)
    found, rounds = decoded(lambda: list(tree.listing(large)))
    assert (len(found), rounds) == (LARGE, 1)
    assert tree.lookup(large, b"000001") is not None


def test_a_large_catalog_is_read_and_parsed_without_the_lock() -> None:
    objects = Objects()
    spec = {
        f"d{one}": {f"{'n' * 200}{two}": b"" for two in range(100)} for one in range(BYTES_AT_ONCE // 20_000)
    }
    hung = image(objects, spec)
    assert hung.ref.size > BYTES_AT_ONCE
    tree = shown(objects, live(objects, {"image": hung}))
    at = number(tree, "image")
    before = objects.asked
    with pytest.raises(NeedDecoding):
        tree.listing(at)
    assert objects.asked == before, "16 MiB from the disk are not read under the lock either"
    found, rounds = decoded(lambda: list(tree.listing(at)))
    assert (len(found), rounds) == (len(spec), 1)


def test_a_large_catalog_that_is_not_here_is_asked_for() -> None:
    objects = Objects()
    hung = image(objects, {f"d{one}": {f"{'n' * 200}{two}": b"" for two in range(100)} for one in range(20)})
    tree = shown(objects, live(objects, {"image": hung}))
    at = number(tree, "image")
    objects.here = {digest for digest in objects if digest != hung.ref.digest}
    with pytest.raises(NeedDecoding) as need:
        tree.listing(at)
    with pytest.raises(Need) as missing:
        need.value.decode()
    assert missing.value.refs == (hung.ref,)


def test_a_large_catalog_that_is_none_is_refused() -> None:
    objects = Objects()
    ref = ObjectRef(objects.put(bytes(BYTES_AT_ONCE + 1)), BYTES_AT_ONCE + 1)
    with pytest.raises(NeedDecoding) as need:
        ParsedObjects().catalog("test", ref, objects, {})
    with pytest.raises(FormatError):
        need.value.decode()


async def test_a_filesystem_decodes_in_a_thread_what_is_large() -> None:
    objects = FetchedObjects()
    filesystem = filesystem_of(
        objects, live(objects, {"image": image(objects, wide(LARGE) | {"f": b"data"})}).ref
    )
    tree = filesystem.tree
    with filesystem.lock:
        at = number(tree, "image")
    found = await filesystem.complete(filesystem.locked(lambda fetched: tree.lookup(at, b"f", fetched)))
    assert found is not None
    assert b"".join(await filesystem.complete(FileRead(filesystem, found.number, 0, 100))) == b"data"


async def test_catalogs_that_push_one_another_out_end_their_call_and_no_other() -> None:
    objects = FetchedObjects()
    filesystem = filesystem_of(objects, live(objects, {"image": image(objects, wide(LARGE))}).ref)
    tree = filesystem.tree
    with filesystem.lock:
        at = number(tree, "image")

    def forgetful(_: object) -> None:
        tree.parsed.clear()
        tree.listing(at)

    with pytest.raises(OSError, match="Errno 5"):
        await filesystem.complete(filesystem.locked(forgetful))
    assert filesystem.counters.faults == {"BadData": 1}
    assert await filesystem.complete(filesystem.locked(lambda fetched: tree.getattr(ROOT, fetched)))


def test_memory_is_charged_as_decoded_and_stays_within_its_limit() -> None:
    """Regression: the limit counted encoded bytes, and a catalog of 53 MiB took 1.2 GB."""
    objects = Objects()
    catalogs = [image(objects, {f"{one} {two}": b"" for two in range(500)}) for one in range(40)]
    limit = 10 * 500 * ENTRY_MEMORY
    parsed = ParsedObjects(limit)
    for hung in catalogs:
        parsed.catalog("test", hung.ref, objects, {}).directory(0)
        assert parsed.bytes <= limit + 500 * 2 * ENTRY_MEMORY
    assert 2 <= len(parsed) <= 10
    kept = {key.ref for _, key in parsed.catalogs()}
    assert kept == {hung.ref for hung in catalogs[-len(kept) :]}, "the least recently used are gone"
    parsed.clear()
    assert (parsed.bytes, len(parsed)) == (0, 0)


def test_the_repository_that_holds_most_gives_up_its_own() -> None:
    """A walk over one repository's large catalogs evicts no small catalog of another repository."""
    objects = Objects()
    small = [image(objects, {f"s{one} {two}": b"" for two in range(50)}) for one in range(10)]
    large = [image(objects, {f"l{one} {two}": b"" for two in range(500)}) for one in range(40)]
    parsed = ParsedObjects(5 * 500 * ENTRY_MEMORY)
    honest = [parsed.catalog("honest", hung.ref, objects, {}) for hung in small]
    for one in honest:
        one.directory(0)
    for hung in large:
        parsed.catalog("hostile", hung.ref, objects, {}).directory(0)
    left = [key.ref for repository, key in parsed.catalogs() if repository == "hostile"]
    assert left == [hung.ref for hung in large[-len(left) :]]
    assert 1 <= len(left) < 5
    again = [parsed.catalog("honest", hung.ref, objects, {}) for hung in small]
    assert all(one is before for one, before in zip(again, honest, strict=True))


def test_the_one_kept_last_stays_where_nothing_else_fits() -> None:
    objects = Objects()
    parsed = ParsedObjects(1000)
    for number_of_entries in (10, 600):
        hung = image(objects, wide(number_of_entries))
        kept = parsed.catalog("test", hung.ref, objects, {})
        kept.directory(0)
        assert parsed.catalog("test", hung.ref, objects, {}) is kept
        assert len(parsed) == 1
        assert parsed.bytes == kept.memory > 1000


def test_what_is_held_is_found_by_its_size_and_namespace_too() -> None:
    """A catalog in memory is not given to another repository that only states its digest."""
    ours, theirs = Objects(), Objects()
    ours.namespace = b"private"
    hung = image(ours, {"secret": b"x"})
    parsed = ParsedObjects()
    mine = parsed.catalog("ours", hung.ref, ours, {})
    assert parsed.catalog("ours", hung.ref, ours, {}) is mine
    theirs.here = set()
    theirs[hung.ref.digest] = b""
    with pytest.raises(Need):
        parsed.catalog("theirs", hung.ref, theirs, {})
    with pytest.raises(Need):
        parsed.catalog("ours", ObjectRef(hung.ref.digest, hung.ref.size - 1), ours, {})


def test_equal_catalogs_of_public_repositories_are_held_once() -> None:
    one, two = Objects(), Objects()
    hung = image(one, {"file": b"x"})
    two.update(one)
    parsed = ParsedObjects()
    assert parsed.catalog("one", hung.ref, one, {}) is parsed.catalog("two", hung.ref, two, {})
    assert len(parsed) == 1


def test_a_path_longer_than_linux_takes_ends_the_way_down() -> None:
    """Each slot's record in the journal holds the slot's path. 3,000 nested catalogs with long names once
    made a journal of 866 MB."""
    objects = Objects()
    here = image(objects, {"file": b"x"})
    for _ in range(30):
        here = image(objects, {"d" * 200: here})
    tree = shown(objects, live(objects, {"image": here}))

    def to_the_bottom() -> None:
        at = number(tree, "image")
        for _ in range(31):
            found = tree.lookup(at, b"d" * 200)
            assert found is not None
            at = found.number

    with pytest.raises(OSError, match="too long"):
        to_the_bottom()
    assert max(len(slot.path) for slot in tree.slots) <= 4095


def test_a_hardlink_whose_first_name_is_another_file_is_refused() -> None:
    """Every name of a hardlink group shows the inode number of the group's first name. So the first name must
    be the same file."""
    for field, value in ((hostile.MODE, 0o100666), (hostile.SIZE, 4), (hostile.UID, 5), (hostile.LINK, 0)):
        objects = Objects()
        made = hostile.draft(objects)
        made.directories[0][8][field] = value  # of `one`, the first name in the group of `directory/two`
        root = ObjectRef(sha256(made.encode()), len(made.encode()))
        objects.put(made.encode())
        top = hostile.live({b"image": root})
        objects.put(top)
        tree = shown(objects, live(objects, {"x": {}}))
        tree.repositories["test"].root = ObjectRef(sha256(top), len(top))
        tree.slots.show(tree.slots.root, tree.repositories["test"].root)  # type: ignore[arg-type]
        at = number(tree, "image/directory")
        with pytest.raises(FormatError, match="no hardlink"):
            tree.lookup(at, b"two")
