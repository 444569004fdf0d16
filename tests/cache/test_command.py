"""`lazyfs cache` beside a mount that uses the same cache."""

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import free_port
from lazyfs_cache.files import layout
from tests.support.cli import lazyfs, mounted, new_repository, serving
from tests.support.small_disks import break_filesystem, loop_ext4
from tests.support.until import until
from tests.support.usage import disk_usage


class World:
    """A repository of two images, mounted, and its cache."""

    def __init__(self, base: Path) -> None:
        self.mnt = base / "mnt"
        self.directory = base / "cache"
        self.objects = self.directory / "objects"

    def cache(self, *arguments: str, check: bool = True) -> Any:
        return lazyfs("cache", "--cache", str(self.directory), *arguments, check=check)

    def status(self) -> Any:
        return json.loads(self.cache("status", "--json").stdout)


def tree(base: Path, name: str, files: dict[str, bytes]) -> Path:
    """Writes a directory to publish; returns its path."""
    for path, content in files.items():
        place = base / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return base / name


FILES = {f"lib/{number}.so": os.urandom(100_000 + number) for number in range(20)} | {
    "bin/large": os.urandom(5 << 20)
}


CATALOGS = 4
"""The number of catalogs that the mount pins while in use: the tree's root, `lab`, and the two images."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    base = tmp_path_factory.mktemp("world")
    store, keys = new_repository(base)
    for name in ("first", "second"):
        files = {path: name.encode() + content for path, content in FILES.items()}
        lazyfs("publish", f"dir:{tree(base, name, files)}", store, "--as", f"lab/{name}:1", "--keys", keys)
    world = World(base)
    with (
        serving(store) as url,
        mounted(
            url,
            world.mnt,
            "--trust",
            str(store / "metadata/1.root.json"),
            "--cache",
            str(world.directory),
            "--cache-limit",
            "40M",
        ),
    ):
        yield world


@pytest.mark.root
def test_an_operator_looks_and_acts_while_it_is_mounted(world: World) -> None:
    first = world.mnt / "lab/first:1"
    assert (first / "bin/large").read_bytes()[5:] == FILES["bin/large"]
    status = world.status()
    assert status["state"] == "on"
    assert status["limit"] == 40 << 20
    assert 5 << 20 < status["charged"] < 8 << 20
    assert disk_usage(world.objects) <= status["charged"]

    pinned = world.cache("pin", str(first)).stdout
    assert pinned.startswith("pinned lab/first:1: ")
    status = world.status()
    assert status["pinned"] > 7_000_000
    assert list(status["pin_sets"]) == ["lab/first:1"]

    for number in range(20):
        (world.mnt / f"lab/second:1/lib/{number}.so").read_bytes()
    listed = [json.loads(line) for line in world.cache("list", "--by", "image", "--json").stdout.splitlines()]
    assert len(listed) == 2
    assert sum(image["here"] == image["known"] for image in listed) == 1
    by_age = [json.loads(line) for line in world.cache("list", "--json").stdout.splitlines()]
    assert [row["age"] for row in by_age] == sorted((row["age"] for row in by_age), reverse=True)
    assert {row["pins"] for row in by_age} >= {0, 1}

    left: list[Any] = []

    def only_pinned_ones_left() -> bool:
        """Evicts everything; returns True if only pinned values are left. A new value can be evicted only
        after the mount has entered it in the index, which takes up to two seconds."""
        world.cache("evict", "all")
        left[:] = [json.loads(line) for line in world.cache("list", "--json").stdout.splitlines()]
        return all(row["pins"] for row in left)

    until(only_pinned_ones_left)
    assert len(left) >= status["pin_sets"]["lab/first:1"]
    assert len(left) <= status["pin_sets"]["lab/first:1"] + CATALOGS

    assert "too large" not in world.cache("resize", "12M").stdout
    assert world.status()["limit"] == 12 << 20
    refused = world.cache("pin", str(world.mnt / "lab/second:1"), check=False)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "unpin something or raise the limit" in refused.stderr
    assert (world.mnt / "lab/second:1/bin/large").read_bytes()[6:] == FILES["bin/large"]
    assert disk_usage(world.objects) <= 12 << 20

    world.cache("unpin", "lab/first:1")
    assert world.status()["pinned"] < 100_000, "no more than the catalogs"
    assert world.cache("unpin", "lab/first:1", check=False).returncode == 2
    world.cache("resize", "40M")


@pytest.mark.root
def test_verify_finds_evicts_and_the_mount_fetches_again(world: World) -> None:
    path = world.mnt / "lab/first:1/lib/3.so"
    content = path.read_bytes()
    assert world.cache("verify").returncode == 0
    values = (value for value in (world.objects / layout.DATA).rglob("*") if value.is_file())
    (place,) = [value for value in values if content[50_000:50_100] in value.read_bytes()]  # the file's pack
    damaged = bytearray(place.read_bytes())
    damaged[damaged.index(content[50_000:50_100])] ^= 1
    place.write_bytes(damaged)
    found = world.cache("verify", check=False)
    assert found.returncode == 1
    assert "1 damaged objects" in found.stderr
    assert not place.exists()
    assert path.read_bytes() == content
    assert world.cache("verify").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resize", "much"], "is no size: write it like 4G or 500M"),
        (["resize", "1K"], "limit 1024 is too small"),
        (["evict", "x"], "is no size"),
        (["pin", "/nowhere"], "there is no such file or directory"),
        (["pin", "/tmp"], "lies in no mount of lazyfs"),
        (["unpin", "nothing"], "is not pinned"),
    ],
)
@pytest.mark.root
def test_wrong_arguments_are_one_line(world: World, arguments: list[str], said: str) -> None:
    done = world.cache(*arguments, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.root
def test_a_sites_prefilled_directory_below_the_cache(tmp_path: Path) -> None:
    """The directory is a read-only copy of a store's objects. The mount reads objects from it that the origin
    no longer has."""
    store, keys = new_repository(tmp_path)
    lazyfs("publish", f"dir:{tree(tmp_path, 'first', FILES)}", store, "--as", "lab/first:1", "--keys", keys)
    shutil.copytree(store / "data", tmp_path / "site" / "data")
    with serving(store) as url:
        options = ["--trust", str(store / "metadata/1.root.json"), "--cache", str(tmp_path / "cache")]
        with mounted(url, tmp_path / "mnt", *options, "--lower", str(tmp_path / "site")):
            shutil.rmtree(store / "data")
            for path, content in FILES.items():
                assert (tmp_path / "mnt/lab/first:1" / path).read_bytes() == content


@pytest.mark.root
def test_catalogs_in_use_stay(tmp_path: Path) -> None:
    """All other values are evicted, the origin is down, and the mount's process has ended. A new mount can
    still show the tree."""
    store, keys = new_repository(tmp_path)
    lazyfs("publish", f"dir:{tree(tmp_path, 'first', FILES)}", store, "--as", "lab/first:1", "--keys", keys)
    directory = tmp_path / "cache"
    options = ["--trust", str(store / "metadata/1.root.json"), "--cache", str(directory)]

    def cache(*arguments: str) -> str:
        return lazyfs("cache", "--cache", directory, *arguments).stdout

    with serving(store) as url:
        with mounted(url, tmp_path / "mnt", *options) as mnt:
            assert (mnt / "lab/first:1/bin/large").read_bytes() == FILES["bin/large"]
            until(lambda: json.loads(cache("status", "--json"))["pinned"] > 0)
            cache("evict", "all")
            left = [json.loads(line) for line in cache("list", "--json").splitlines()]
            assert 0 < len(left) <= CATALOGS
            assert {row["pins"] for row in left} == {1}
        # They end with the daemon, which goes on while a container that another test has started beside this
        # one has a copy of the mount.
        until(lambda: json.loads(cache("status", "--json"))["pinned"] == 0, seconds=60)
    with mounted(url, tmp_path / "mnt", *options) as mnt:
        assert sorted(os.listdir(mnt / "lab/first:1")) == ["bin", "lib"]


@pytest.mark.root
def test_the_policy_is_the_first_mounts_until_all_are_gone(tmp_path: Path) -> None:
    store, keys = new_repository(tmp_path)
    lazyfs("publish", f"dir:{tree(tmp_path, 'first', {'f': b'1'})}", store, "--as", "a:1", "--keys", keys)
    directory = tmp_path / "cache"

    def policy() -> str:
        status = json.loads(lazyfs("cache", "--cache", directory, "status", "--json").stdout)
        assert isinstance(status["policy"], str)
        return status["policy"]

    def mount(name: str, *options: str) -> AbstractContextManager[Path]:
        return mounted(str(store), tmp_path / name, "--cache", str(directory), *options)

    with mount("a"):
        assert policy() == "lru"
    with mount("a", "--cache-policy", "sieve"), mount("b", "--cache-policy", "lru"), mount("c"):
        assert policy() == "sieve"
    assert policy() == "sieve", "looking at it changes nothing"
    with mount("a") as first:
        lazyfs("status", first)  # until a mount has something to do, it may have its cache not yet open
        with mount("b", "--cache-policy", "lru"):
            assert policy() == "sieve"
    with mount("b", "--cache-policy", "lru"):
        assert policy() == "lru"


@pytest.mark.root
def test_a_mount_whose_cache_disk_breaks_reads_on_and_says_so(tmp_path: Path) -> None:
    store, keys = new_repository(tmp_path)
    lazyfs("publish", f"dir:{tree(tmp_path, 'first', FILES)}", store, "--as", "lab/first:1", "--keys", keys)
    port = free_port()
    options = ["--metrics", f"127.0.0.1:{port}", "--log", str(tmp_path / "log")]

    def on() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines: list[str] = answer.read().decode().splitlines()
        (line,) = [line for line in lines if line.startswith("lazyfs_cache_on ")]
        return line

    (tmp_path / "small").mkdir()
    with loop_ext4(tmp_path / "small", 64 << 20) as disk:
        options += ["--cache", str(disk / "cache"), "--cache-limit", "32M"]
        with mounted(str(store), tmp_path / "mnt", *options) as mnt:
            paths = list(FILES)
            read = {path: (mnt / "lab/first:1" / path).read_bytes() for path in paths[:5]}
            assert on() == "lazyfs_cache_on 1.0"
            break_filesystem(tmp_path / "small" / "disk")
            read |= {path: (mnt / "lab/first:1" / path).read_bytes() for path in paths}
            assert read == FILES
            assert on() == "lazyfs_cache_on 0.0"
            assert "cache: off: " in lazyfs("status", mnt).stdout
    warnings = [line for line in (tmp_path / "log").read_text().splitlines() if "turned off" in line]
    assert len(warnings) == 1


def test_no_cache_there(tmp_path: Path) -> None:
    done = lazyfs("cache", "--cache", tmp_path / "none", "status", check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there is no cache" in done.stderr
    assert not (tmp_path / "none").exists()
