"""A publisher who is not the owner of store or keys reads whose they are."""

import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import LazyfsError
from lazyfs.core.params import Params
from lazyfs.repository import keys, lifecycle
from lazyfs.store.directory import DirectoryStore
from lazyfs.system.bounded_look import ask_one

pytestmark = pytest.mark.root
ANOTHER = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter, with a store and its keys, both root's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # tmp_path is closed to other users
        directory = Path(name)
        directory.chmod(0o755)
        now = datetime(2026, 5, 1, 12, tzinfo=UTC)
        lifecycle.init(
            str(directory / "store"), "test.example.org", now, keys=f"{name}/keys", params=Params()
        )
        (directory / "keys").chmod(0o755)
        yield directory


def refused(call: Callable[[], Any]) -> str:
    """Returns the error that another user gets."""

    def as_another() -> str:
        os.setgroups([])
        os.setgid(ANOTHER)
        os.setuid(ANOTHER)
        try:
            call()
        except LazyfsError as error:
            return str(error)
        return "not refused"

    answer = ask_one(as_another, 30)
    assert answer.came
    return str(answer.value)


def test_a_store_of_another_user_is_named_with_its_owner(place: Path) -> None:
    def write() -> None:
        DirectoryStore(str(place / "store")).write_metadata("x.json", b"{}", expected=None)

    for said in (refused(write), refused(lambda: DirectoryStore.create(str(place / "new")))):
        assert "Permission denied" in said
        assert f"run this as the store's owner, uid 0, not as uid {ANOTHER}" in said


def test_a_key_of_another_user_is_named_with_what_to_do(place: Path) -> None:
    said = refused(lambda: keys.load(str(place / "keys")))
    first = min(place.glob("keys/*.pem"))
    assert said == (
        f"key file {first}: Permission denied; run this as the user who owns it, or name other keys "
        "with --keys"
    )
