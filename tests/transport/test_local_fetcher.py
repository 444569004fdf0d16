import time
from pathlib import Path

import pytest

from lazyfs.core.codec import open_object
from lazyfs.core.digest import object_path
from lazyfs.core.errors import BadData, NotFound, TransportError, UsageError
from lazyfs.transport.fetcher import Request
from lazyfs.transport.local import LocalFetcher
from lazyfs.transport.open import open_fetcher
from tests.support.store_files import store_object


def _request(path: str, max_bytes: int = 1000) -> Request:
    return Request(path, max_bytes, time.monotonic() + 5)


def test_reads_and_accepts(tmp_path: Path) -> None:
    ref = store_object(tmp_path, b"hello")
    request = _request(object_path(ref.digest))._replace(accept=lambda frame: open_object(frame, ref))
    assert open_fetcher(str(tmp_path)).fetch(request) == b"hello"


def test_a_wrong_object_is_bad_data(tmp_path: Path) -> None:
    ref = store_object(tmp_path, b"hello")
    (tmp_path / object_path(ref.digest)).write_bytes(b"not a frame")
    request = _request(object_path(ref.digest))._replace(accept=lambda frame: open_object(frame, ref))
    with pytest.raises(BadData, match="not a zstd frame"):
        LocalFetcher(str(tmp_path)).fetch(request)


def test_missing_is_not_broken(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        LocalFetcher(str(tmp_path)).fetch(_request("data/00/11"))


def test_too_long_and_unreadable_are_named(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 11)
    (tmp_path / "folder").mkdir()
    with pytest.raises(TransportError, match="11 bytes, more than the 10"):
        LocalFetcher(str(tmp_path)).fetch(_request("long", 10))
    with pytest.raises(TransportError, match="directory"):
        LocalFetcher(str(tmp_path)).fetch(_request("folder"))


@pytest.mark.parametrize("path", ["../secret", "data/../../secret", "/etc/passwd"])
def test_nothing_outside_the_store_is_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "store").mkdir()
    with pytest.raises(TransportError, match="outside"):
        LocalFetcher(str(tmp_path / "store")).fetch(_request(path))


def test_operator_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        open_fetcher(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="leave it out"):
        open_fetcher(str(tmp_path), "http://proxy:3128")
    with pytest.raises(UsageError, match="http://"):
        open_fetcher("ftp://host/store")
