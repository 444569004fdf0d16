"""The store of pulled images: it keeps to its limit, removes the least recently used image first, and never
one that is in use or another user's."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.pulled.image_store import ImageStore, KeptImage, NoRoom, PartialImage

MIB = 1 << 20
LIMIT = 100 * MIB


def filling(key: str, size: int) -> Callable[[PartialImage], str]:
    def fill(partial: PartialImage) -> str:
        for _ in range(size // MIB):
            partial.write(MIB)
        Path(partial.directory, "file").write_text(key)
        return key

    return fill


def add(store: ImageStore, key: str, size: int) -> KeptImage:
    return store.add(filling(key, size), private=lambda: False)


def keys(directory: Path) -> set[str]:
    return {path.name for path in (directory / "images").iterdir() if path.suffix != ".lock"}


def used(directory: Path, key: str, when: int) -> None:
    os.utime(directory / f"images/{key}.lock", (when, when))


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "store"), LIMIT)
    for when, key in enumerate("abc"):
        os.close(add(store, key, 32 * MIB).lock)
        used(tmp_path / "store", key, when)
    assert keys(tmp_path / "store") == {"a", "b", "c"}
    held = store.held("a")
    assert held is not None
    os.close(held.lock)
    os.close(add(store, "d", 32 * MIB).lock)
    assert keys(tmp_path / "store") == {"a", "c", "d"}
    assert list((tmp_path / "store/partial").iterdir()) == []
    assert store.held("b") is None


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "store"), LIMIT)
    first = add(store, "a", 64 * MIB)
    with pytest.raises(NoRoom, match=r"its limit of 100\.0 MiB is too small .*raise image_limit"):
        add(store, "b", 64 * MIB)
    assert Path(first.directory, "file").read_text() == "a"
    os.close(first.lock)
    os.close(add(store, "b", 64 * MIB).lock)
    assert keys(tmp_path / "store") == {"b"}


def test_an_image_larger_than_the_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRoom):
        add(ImageStore(str(tmp_path / "store"), LIMIT), "a", 101 * MIB)
    assert keys(tmp_path / "store") == set()


def test_a_reference_means_what_was_pulled(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "store"), LIMIT)
    assert store.named("docker://app:1") is None
    os.close(add(store, "a", MIB).lock)
    store.name("docker://app:1", "a")
    found = store.named("docker://app:1")
    assert found is not None
    assert found.directory.endswith("/images/a")
    (name,) = [path for path in (tmp_path / "store/names").iterdir() if path.suffix == ""]
    name.write_text("spoilt")
    assert store.named("docker://app:1") is None


def test_what_a_killed_pull_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from lazyfs.pulled.image_store import ImageStore\n"
        "def fill(partial):\n"
        "    partial.write(1 << 20); print(partial.directory, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "ImageStore(sys.argv[1], 1 << 30).add(fill, private=lambda: True)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    left = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    assert os.path.isdir(left)
    os.close(add(ImageStore(str(tmp_path / "store"), LIMIT), "a", MIB).lock)
    assert not os.path.exists(left)


@pytest.mark.root
def test_a_directory_of_another_users_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    os.chown(tmp_path / "store", 65534, 65534)
    with pytest.raises(UsageError, match="belongs to user 65534"):
        ImageStore(str(tmp_path / "store"), LIMIT)


def test_private_images_are_closed_to_others(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "store"), LIMIT)
    for key, private in (("a", True), ("b", False)):
        found = store.add(filling(key, MIB), private=lambda private=private: private)  # type: ignore[misc]
        assert os.stat(found.directory).st_mode & 0o777 == (0o700 if private else 0o755)
    above = os.stat(tmp_path / "store").st_mode & 0o777
    assert above == (0o711 if os.geteuid() == 0 else 0o700)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 60), st.booleans()), min_size=1, max_size=12)
)
def test_the_bound_holds_and_use_decides(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    """After each step, the images take no more than the limit, and every image in use still exists."""
    directory = tmp_path_factory.mktemp("model") / "store"
    store = ImageStore(str(directory), LIMIT)
    in_use: dict[str, KeptImage] = {}
    try:
        for key, size, keep in steps:
            try:
                found = store.held(key) or add(store, key, size * MIB)
            except NoRoom:
                continue
            finally:
                sizes = [int((directory / "images" / name / "size").read_text()) for name in keys(directory)]
                assert sum(sizes) <= LIMIT
                assert set(in_use) <= keys(directory)
            if keep and key not in in_use:
                in_use[key] = found
            else:
                os.close(found.lock)
    finally:
        for held in in_use.values():
            os.close(held.lock)
