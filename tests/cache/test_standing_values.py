"""Values are read from a cache directory that is not open. What opening would refuse is not believed."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lazyfs_cache import open_cache
from lazyfs_cache.files import layout
from lazyfs_cache.standing_values import standing_values

LIMIT = 16 << 20
LARGE = os.urandom(200_000)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / "cache"
    with open_cache(str(found), LIMIT, policy="sieve", upkeep=False) as cache:
        assert cache.put(b"small", b"value")
        assert cache.put(b"large", LARGE)
    return found


def test_values_are_read_as_they_were_put(directory: Path) -> None:
    found = standing_values(str(directory))
    assert found is not None
    assert (found.limit, found.policy) == (LIMIT, "sieve")
    assert found.get(b"small") == b"value"
    assert found.get(b"large") == LARGE
    assert found.read(b"large", 65_000, 70_000, len(LARGE)) == LARGE[65_000:135_000]
    assert found.read(b"large", 0, 1, 7) is None
    assert found.get(b"missing") is None
    found.close()


def test_a_damaged_value_is_not_here(directory: Path) -> None:
    path = directory / "data" / layout.name_of(b"large")
    content = bytearray(path.read_bytes())
    content[70_000] ^= 1
    path.write_bytes(content)
    found = standing_values(str(directory))
    assert found is not None
    assert found.get(b"large") is None
    assert found.read(b"large", 65_536, 10) is None
    assert found.read(b"large", 0, 10) == LARGE[:10]
    found.close()


def test_nothing_is_put_or_held_before_the_cache_is_opened(directory: Path) -> None:
    before = sorted(os.listdir(directory))
    found = standing_values(str(directory))
    assert found is not None
    assert not found.put(b"new", b"value")
    assert found.put_many([(b"new", b"value")]) == [False]
    assert found.wait(b"new", 60)
    with found.claim(b"new"), found.claim_many([b"new"])[0]:
        assert found.get(b"new") is None
    found.close()
    assert sorted(os.listdir(directory)) == before


def _of_another_format(directory: Path) -> None:
    state = msgspec.json.decode((directory / layout.STATE).read_bytes())
    (directory / layout.STATE).write_bytes(msgspec.json.encode(state | {"format": layout.FORMAT + 1}))


def _without_state(directory: Path) -> None:
    (directory / layout.STATE).unlink()


def _with_a_torn_state(directory: Path) -> None:
    (directory / layout.STATE).write_bytes(b'{"format"')


def _writable_by_others(directory: Path) -> None:
    directory.chmod(0o777)


def _with_a_foreign_file(directory: Path) -> None:
    (directory / "other").write_bytes(b"")


def _with_a_link(directory: Path) -> None:
    (directory / layout.DATA).rename(directory.parent / "data")
    (directory / layout.DATA).symlink_to(directory.parent / "data")


@pytest.mark.parametrize(
    "spoil",
    [
        _of_another_format, _without_state, _with_a_torn_state, _writable_by_others, _with_a_foreign_file,
        _with_a_link,
    ],
)  # fmt: skip
def test_a_directory_that_opening_would_judge_is_left_to_it(
    spoil: Callable[[Path], None], directory: Path
) -> None:
    spoil(directory)
    assert standing_values(str(directory)) is None


def test_a_directory_that_is_no_cache_is_not_made_one(tmp_path: Path) -> None:
    assert standing_values(str(tmp_path / "none")) is None
    assert not (tmp_path / "none").exists()
