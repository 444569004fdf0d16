"""Reads of objects that must be fetched: each object is fetched once and delays no other call. A failed fetch
or a killed program ends the wait."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.core.digest import sha256
from tests.support.fuse_mount import Mounted, mounted
from tests.support.images import Objects, file, image, live
from tests.support.until import until

pytestmark = pytest.mark.root
BIG = os.urandom(1 << 20)


@pytest.fixture
def mount(kind: str, tmp_path: Path) -> Iterator[Mounted]:
    """Mounts two images and reads the second one. Afterwards it drops all objects, so that each must be
    fetched again before it can be read."""
    objects = Objects()
    many = {f"n{i}": b"content of n%d" % i for i in range(60)}
    one = image(objects, {"f": b"one", "big": file(objects, BIG, shift=17), "d": {"g": b"g"}, "many": many})
    two = image(objects, {"f": b"two"})
    with mounted(kind, objects, live(objects, {"one": one, "two": two}), tmp_path) as found:
        (found.path / "two/f").read_bytes()
        found.ask("objects", here=False)
        yield found
        found.ask("go")


def start(*command: str | Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_what_is_missing_is_fetched_once(mount: Mounted) -> None:
    assert (mount.path / "one/f").read_bytes() == b"one"
    assert (mount.path / "one/big").read_bytes() == BIG
    fetched = mount.ask("objects")["fetched"]
    assert len(fetched) == len(set(fetched))


def test_nothing_has_to_be_kept(mount: Mounted) -> None:
    mount.ask("objects", keep=False)
    assert (mount.path / "one/big").read_bytes() == BIG
    assert (mount.path / "one/d/g").read_bytes() == b"g"


def test_a_slow_fetch_holds_up_nobody_else(mount: Mounted) -> None:
    assert (mount.path / "one/f").stat().st_size == 3
    mount.ask("hold")
    waiting = [start("cat", mount.path / "one" / name) for name in ("f", "big", "d/g")]
    until(lambda: mount.ask("objects")["waiting"] >= 3)
    os.listdir(mount.path / "two")
    assert not (mount.path / "one/missing").exists()
    assert os.lstat(mount.path / "one/d").st_mtime > 0
    assert all(process.poll() is None for process in waiting)
    mount.ask("go")
    assert [process.communicate()[0] for process in waiting] == [b"one", BIG, b"g"]


def test_more_readers_wait_than_a_pool_has_threads(mount: Mounted) -> None:
    files = sorted((mount.path / "one/many").iterdir())
    mount.ask("hold")
    readers = [start("cat", path) for path in files]
    until(lambda: mount.ask("objects")["waiting"] >= len(files))
    assert os.listdir(mount.path / "two") == ["f"]
    assert not (mount.path / "one/missing").exists()
    mount.ask("go")
    assert [reader.communicate(timeout=60)[0] for reader in readers] == [
        b"content of %s" % os.fsencode(path.name) for path in files
    ]


def test_what_cannot_be_had_is_an_io_error_and_is_asked_for_again(mount: Mounted, tmp_path: Path) -> None:
    name = next(digest for digest, plain in mount.objects.items() if plain == b"one")
    stored = tmp_path / "objects" / name.hex()
    stored.rename(tmp_path / "aside")
    for _ in range(2):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
            (mount.path / "one/f").read_bytes()
        assert caught.value.errno == errno.EIO
    assert mount.ask("counters")["faults"]["NotFound"] >= 2
    (tmp_path / "aside").rename(stored)
    assert (mount.path / "one/f").read_bytes() == b"one"


def test_a_catalog_that_is_none_is_an_io_error(kind: str, tmp_path: Path) -> None:
    objects = Objects()
    broken = image(objects, {"f": b"1"})
    nonsense = b"no catalog at all" * 10
    digest = objects.put(nonsense)
    bad = broken._replace(ref=broken.ref._replace(digest=digest, size=len(nonsense)))
    with mounted(kind, objects, live(objects, {"bad": bad, "good": broken}), tmp_path) as found:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
            os.lstat(found.path / "bad/f")
        assert caught.value.errno == errno.EIO
        assert (found.path / "good/f").read_bytes() == b"1"


def test_a_reader_of_data_can_be_killed(mount: Mounted) -> None:
    os.lstat(mount.path / "one/f")
    mount.ask("hold")
    reader = start("cat", mount.path / "one/f")
    until(lambda: mount.ask("objects")["waiting"] == 1)
    reader.send_signal(signal.SIGKILL)
    assert reader.wait(timeout=10) == -signal.SIGKILL
    for pipe in (reader.stdout, reader.stderr):
        assert pipe is not None
        pipe.close()
    mount.ask("go")
    assert (mount.path / "one/f").read_bytes() == b"one"


def test_catalogs_that_were_let_go_are_read_again(mount: Mounted) -> None:
    with open(mount.path / "one/d/g", "rb") as opened:
        before = os.fstat(opened.fileno()).st_ino
        mount.ask("forget objects")
        mount.ask("objects", here=True)
        assert opened.read() == b"g"
        assert os.stat(mount.path / "one/d/g").st_ino == before
        assert sorted(os.listdir(mount.path / "one")) == ["big", "d", "f", "many"]


def test_a_sequential_reader_has_what_comes_next_fetched(kind: str, tmp_path: Path) -> None:
    objects = Objects()
    large = os.urandom(16 << 20)
    root = live(objects, {"one": image(objects, {"large": file(objects, large, shift=18)})})
    with mounted(kind, objects, root, tmp_path) as found:
        found.ask("objects", here=False)
        with open(found.path / "one/large", "rb", buffering=0) as opened:
            for at in range(0, 6 << 20, 1 << 18):
                assert opened.read(1 << 18) == large[at : at + (1 << 18)]
        asked = found.ask("objects")
        chunks = {sha256(large[at : at + (1 << 18)]).hex() for at in range(0, len(large), 1 << 18)}
        assert len(asked["ahead"]) >= 8
        assert set(asked["ahead"]) <= chunks


def test_a_random_reader_fetches_what_it_touches(kind: str, tmp_path: Path) -> None:
    objects = Objects()
    large = os.urandom(16 << 20)
    root = live(objects, {"one": image(objects, {"large": file(objects, large, shift=16)})})
    with mounted(kind, objects, root, tmp_path) as found:
        os.lstat(found.path / "one/large")
        found.ask("objects", here=False)
        places = [at << 20 | 0x8000 for at in (11, 3, 14, 7, 1, 9, 5, 13)]
        with open(found.path / "one/large", "rb", buffering=0) as opened:
            for at in places:
                assert os.pread(opened.fileno(), 100, at) == large[at : at + 100]
        asked = found.ask("objects")
        assert len(asked["fetched"]) == len(places) + 1  # a chunk each, and the list of chunks
        assert asked["ahead"] == []


@pytest.mark.parametrize("place", [0, 11])
def test_a_library_comes_whole_wherever_it_is_touched(kind: str, place: int, tmp_path: Path) -> None:
    objects = Objects()
    large = os.urandom(16 << 20)
    library = file(objects, large, shift=20, mode=0o644)
    root = live(objects, {"one": image(objects, {"libx.so.1": library})})
    with mounted(kind, objects, root, tmp_path) as found:
        os.lstat(found.path / "one/libx.so.1")
        found.ask("objects", here=False)
        with open(found.path / "one/libx.so.1", "rb", buffering=0) as opened:
            assert os.pread(opened.fileno(), 100, place << 20 | 0x8000) == large[place << 20 | 0x8000 :][:100]
        asked = found.ask("objects")
        chunks = [sha256(large[at << 20 : (at + 1) << 20]).hex() for at in range(16)]
        assert asked["ahead"] == chunks[place + 1 :] + chunks[:place]


def test_an_executable_comes_whole_and_other_executable_files_do_not(kind: str, tmp_path: Path) -> None:
    objects = Objects()
    program, data = (start + os.urandom((4 << 20) - 4) for start in (b"\x7fELF", b"root"))
    files = {
        name: file(objects, content, shift=20, mode=0o755)
        for name, content in (("program", program), ("data", data))
    }
    with mounted(kind, objects, live(objects, {"one": image(objects, files)}), tmp_path) as found:
        for name in files:
            os.lstat(found.path / "one" / name)
        found.ask("objects", here=False)
        for name in files:
            with open(found.path / "one" / name, "rb", buffering=0) as opened:
                os.pread(opened.fileno(), 100, 0)
        asked = found.ask("objects")
        assert asked["ahead"] == [sha256(program[at << 20 : (at + 1) << 20]).hex() for at in (1, 2, 3)]
