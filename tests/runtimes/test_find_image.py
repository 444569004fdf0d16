from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.find_image import FoundImage, find


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A repository's tree: two registries, one tag in both, metadata beside."""
    flat = tmp_path / ".flat/ab/abcd"
    flat.mkdir(parents=True)
    (tmp_path / ".flat/cd/cdef").mkdir(parents=True)
    for registry, name, digest in (
        ("one.example", "library/alpine:3", "ab/abcd"),
        ("one.example", "library/alpine:latest", "ab/abcd"),
        ("two.example", "library/alpine:latest", "ab/abcd"),
        ("one.example", "tool:1", "ab/abcd"),
        ("two.example", "tool:1", "cd/cdef"),
    ):
        link = tmp_path / registry / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / ".flat" / digest)
    (tmp_path / ".metadata/one.example/library/alpine:3").mkdir(parents=True)
    return tmp_path


def test_a_name_is_found_with_and_without_registry_and_tag(mount: Path) -> None:
    root = str(mount / ".flat/ab/abcd")
    metadata = str(mount / ".metadata/one.example/library/alpine:3")
    assert find("one.example/library/alpine:3", [str(mount)]) == FoundImage(root, metadata)
    assert find("library/alpine:3", [str(mount)]) == FoundImage(root, metadata)
    assert find("library/alpine", [str(mount)]).root == root
    assert find("alpine", [str(mount)]).root == root
    assert find("alpine", ["/a/mount/that/does/not/answer", str(mount)]).root == root
    assert find(str(mount / "one.example/library/alpine:3"), [str(mount)]) == FoundImage(root, metadata)


def test_the_same_name_for_two_images_is_refused(mount: Path) -> None:
    with pytest.raises(UsageError, match=r"tool:1 is ambiguous; give one of: .*one\.example.*two\.example"):
        find("tool:1", [str(mount)])


def test_what_is_not_there_is_named(mount: Path) -> None:
    with pytest.raises(UsageError, match=r"image library/none:latest: not found in "):
        find("library/none", [str(mount)])
    with pytest.raises(UsageError, match="nothing is mounted"):
        find("library/none", [])
    with pytest.raises(UsageError, match="no such directory"):
        find(str(mount / "none"), [])
