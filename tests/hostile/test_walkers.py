"""Commands that walk a repository come to an end, however often an object is named and however deep the tree
is."""

import json
import stat
from pathlib import Path

import pytest

from lazyfs.core.catalog.inode import Nested
from lazyfs.core.catalog.layout import Totals
from lazyfs.core.digest import ObjectRef
from lazyfs.repository.commit import read_revision
from lazyfs.repository.diff import diff, resolve
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import open_store, reader
from tests.support import hostile_catalogs as hostile
from tests.support.cli import lazyfs, mounted
from tests.support.hostile_site import hung, put
from tests.support.repository import Published

LEVELS = 40
DEPTH = 3000


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path / "site")


def leaf(published: Published, content: bytes) -> ObjectRef:
    made = hostile.Draft(
        [hostile.entry(b"", stat.S_IFDIR | 0o755, size=4096), False, [1, 1, 1], [], []], [[]]
    )
    digest = published.objects.put(content)
    fields = {"size": len(content), "content": digest}
    made.directories[0] = [hostile.entry(b"file", stat.S_IFREG | 0o644, **fields)]
    return put(published.objects, made.encode())


def twice(published: Published, content: bytes) -> ObjectRef:
    here = leaf(published, content)
    for _ in range(LEVELS):
        here = hung(published.objects, {b"left": here, b"right": here})
    return here


def deep(published: Published, content: bytes) -> ObjectRef:
    here = leaf(published, content)
    for _ in range(DEPTH):
        here = hung(published.objects, {b"d": here})
    return here


def commit(published: Published, **images: ObjectRef) -> None:
    root = put(published.objects, hostile.live({name.encode(): ref for name, ref in images.items()}))
    published.commit(Nested(root, live=True, nlink=2, totals=Totals()))


def test_a_tree_that_names_everything_twice_has_a_short_difference(published: Published) -> None:
    commit(published, old=twice(published, b"one"), new=twice(published, b"two"))
    done = lazyfs("diff", "old", "new", published.store, check=False, timeout=60)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"~ {'left/' * LEVELS}file  (content)"
    assert lines[1] == f"~ {'left/' * (LEVELS - 1)}right/  (as below {'left/' * LEVELS})"
    assert len(lines) == LEVELS + 1
    last = json.loads(
        lazyfs("diff", "old", "new", published.store, "--json", check=False).stdout.splitlines()[-1]
    )
    assert last == {"change": "changed", "path": "right", "fields": [], "same_below": "left"}


def test_what_is_added_twice_is_listed_once(published: Published) -> None:
    here = twice(published, b"one")
    empty = hung(published.objects, {})
    full = hung(published.objects, {b"a": here, b"b": here})
    commit(published, old=empty, new=full)
    done = lazyfs("diff", "old", "new", published.store, check=False, timeout=60)
    assert done.returncode == 1
    assert "~ b/  (as below a/)" in done.stdout.splitlines()
    assert len(done.stdout.splitlines()) < 4 * LEVELS
    back = lazyfs("diff", "new", "old", published.store, check=False, timeout=60)
    assert len(back.stdout.splitlines()) == len(done.stdout.splitlines())


def test_plain_and_nested_directories_in_turn(published: Published) -> None:
    """Wherever a directory is nested on one side, it is plain on the other. So `diff` never compares two
    catalogs directly."""

    def level(here: ObjectRef, *, plain: bool) -> ObjectRef:
        """Makes a catalog that leads to `here` under two names: in two plain directories if `plain`,
        otherwise directly."""
        if not plain:
            return hung(published.objects, {b"left": here, b"right": here})
        top = hostile.entry(b"", stat.S_IFDIR | 0o755, size=4096)
        made = hostile.Draft([top, False, [4, 0, 0], [], []], [[], [], []])
        for number, name in enumerate((b"left", b"right"), 1):
            made.directories[0].append(hostile.entry(name, stat.S_IFDIR | 0o755, size=4096, detail=number))
            made.directories[number] = hostile.live_draft({b"left": here, b"right": here}).directories[0]
        made.owns, made.parents = [0, 1, 2], [0, 0, 0]
        return put(published.objects, made.encode())

    old = new = leaf(published, b"one")
    new = leaf(published, b"two")
    for _ in range(LEVELS // 2):
        old = level(level(old, plain=False), plain=False)
        new = level(new, plain=True)
    commit(published, old=old, new=new)
    done = lazyfs("diff", "old", "new", published.store, check=False, timeout=60)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) < 10 * LEVELS


def test_a_chain_far_deeper_than_the_stack_of_calls(published: Published) -> None:
    commit(published, old=deep(published, b"one"), new=deep(published, b"two"))
    tree = StoredTree(reader(open_store(str(published.store))), ObjectRef(*_root(published)))
    (found,) = diff(resolve(tree, "old"), resolve(tree, "new"))
    assert (found.kind, found.path, found.fields) == ("changed", b"d/" * DEPTH + b"file", ("content",))


def _root(published: Published) -> ObjectRef:
    return read_revision(open_store(str(published.store))).root


def test_check_ends(published: Published) -> None:
    commit(published, twice=twice(published, b"one"), deep=deep(published, b"two"))
    done = lazyfs("check", published.store, timeout=120)
    assert "all right" in done.stdout + done.stderr


@pytest.mark.root
def test_pin_and_list_end(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    here = twice(published, b"one")
    commit(published, **{f"t{number}": here for number in range(50)}, deep=deep(published, b"two"))
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache"):
        cache = ("cache", "--cache", tmp_path / "cache")
        pinned = lazyfs(*cache, "pin", tmp_path / "mnt/t1", timeout=60)
        assert f": {LEVELS + 3} objects" in pinned.stdout
        listed = lazyfs(*cache, "list", "--by", "image", timeout=60)
        assert len(listed.stdout.splitlines()) == 50


def test_a_config_that_never_ends_is_not_read(published: Published) -> None:
    """`lazyfs inspect` stops reading the endless config of a hostile store."""
    made = hostile.Draft(
        [hostile.entry(b"", stat.S_IFDIR | 0o755, size=4096), False, [1, 1, 1], [], []], [[]]
    )
    zeros = published.objects.put(bytes(1 << 24))
    listed = published.objects.put(hostile.chunk_list([zeros] * 1000, 24))
    fields = {"size": 1000 << 24, "content": listed, "detail": 24}
    made.directories[0] = [hostile.entry(b"config.json", stat.S_IFREG | 0o644, **fields)]
    image = hung(published.objects, {})
    metadata = hung(published.objects, {b"app": put(published.objects, made.encode())})
    commit(published, app=image, **{".metadata": metadata})
    done = lazyfs("inspect", "app", published.store, check=False, timeout=60)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
