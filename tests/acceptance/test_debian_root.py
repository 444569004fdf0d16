"""A real Debian root filesystem: the mount shows exactly the tree that `umoci unpack` as root puts on
disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian, trees
from tests.support.cli import lazyfs, mounted, new_repository, serving
from tests.support.usage import Sampler

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
NAME = "registry.example.org/library/debian:bookworm"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Makes the image; returns (OCI layout, unpacked tree)."""
    return debian.make_image(tmp_path_factory.mktemp("debian"))


@pytest.fixture(scope="module")
def store(image: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Publishes the image; returns (store, keys)."""
    store, keys = new_repository(tmp_path_factory.mktemp("repository"))
    lazyfs("publish", f"oci:{image[0]}:{debian.TAG}", store, "--keys", keys, "--as", NAME, "--plain")
    return store, keys


@pytest.fixture(scope="module", params=["pyfuse3", "direct"])
def mount(
    request: pytest.FixtureRequest, store: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Yields the image's root on a mount over HTTP."""
    work = tmp_path_factory.mktemp("mount")
    trust = store[0] / "metadata/1.root.json"
    options = ["--cache", str(work / "cache"), "--trust", str(trust), "--fuse", request.param]
    with serving(store[0]) as url, mounted(url, work / "mnt", *options) as mountpoint:
        yield mountpoint / NAME


def test_every_entry_is_the_same(image: tuple[Path, Path], mount: Path) -> None:
    expected = trees.listing(image[1])
    assert len(expected) > 5000
    assert trees.listing(mount.resolve()) == expected


def test_the_same_names_share_an_inode(image: tuple[Path, Path], mount: Path) -> None:
    expected = trees.hardlink_groups(image[1])
    assert expected
    assert trees.hardlink_groups(mount.resolve()) == expected


def test_extended_attributes_are_the_same(image: tuple[Path, Path], mount: Path) -> None:
    expected = trees.xattrs(image[1])
    assert {name for values in expected.values() for name in values} >= {"user.note", "security.capability"}
    assert trees.xattrs(mount.resolve()) == expected


def test_every_byte_is_the_same(image: tuple[Path, Path], mount: Path) -> None:
    expected = trees.digests(image[1])
    assert len(expected) > 3000
    assert trees.digests(mount.resolve()) == expected


def test_a_second_publish_writes_no_object_and_keeps_the_root(
    image: tuple[Path, Path], store: tuple[Path, Path]
) -> None:
    def files() -> dict[str, int]:
        found = (path for path in store[0].rglob("*") if path.is_file())
        publishers = (".lock", "collection.json")  # the lock and the leases
        return {str(path): path.stat().st_mtime_ns for path in found if path.name not in publishers}

    before = files()
    lazyfs("publish", f"oci:{image[0]}:{debian.TAG}", store[0], "--keys", store[1], "--as", NAME, "--plain")
    assert files() == before
    lazyfs("check", store[0])


def test_a_cache_smaller_than_the_image_stays_within_its_limit(
    image: tuple[Path, Path], store: tuple[Path, Path], tmp_path: Path
) -> None:
    limit = 32 << 20
    cache = tmp_path / "cache"
    options = [
        "--cache",
        str(cache),
        "--cache-limit",
        str(limit),
        "--trust",
        str(store[0] / "metadata/1.root.json"),
    ]
    expected = trees.digests(image[1])
    assert (
        sum(path.stat().st_size for path in image[1].rglob("*") if path.is_file() and not path.is_symlink())
        > limit
    )
    with (
        Sampler(cache) as sampler,
        serving(store[0]) as url,
        mounted(url, tmp_path / "mnt", *options) as mountpoint,
    ):
        for _ in range(2):
            assert trees.digests((mountpoint / NAME).resolve()) == expected
    assert sampler.samples > 10
    assert 0 < sampler.most <= limit
