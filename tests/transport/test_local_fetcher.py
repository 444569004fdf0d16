import os
import time
from pathlib import Path

import pytest

from lazyfs.core.codec import decode, open_object
from lazyfs.core.digest import object_path
from lazyfs.core.errors import BadData, DeadlineExceeded, NotFound, TransportError, UsageError
from lazyfs.transport.fetcher import Request, still_wanted
from lazyfs.transport.local import LocalFetcher
from lazyfs.transport.open import open_fetcher
from tests.support.store_files import store_object
from tests.support.zstd_bombs import empty_blocks


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


def test_a_pipe_is_not_waited_for_and_a_device_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(TransportError, match=f"{name}: not a regular file"):
            LocalFetcher(str(tmp_path)).fetch(_request(name))


def test_a_name_that_no_file_has_is_an_error_like_any_other(tmp_path: Path) -> None:
    for name in ("data/a\0b", "data/" + "a" * 5000, "data/\udcff\ud800"):
        with pytest.raises(TransportError):
            LocalFetcher(str(tmp_path)).fetch(_request(name))


def test_a_file_that_grows_is_read_to_its_limit_only(tmp_path: Path) -> None:
    """The file's size is right when it is opened. Then another process appends faster than the fetcher
    reads."""
    (tmp_path / "log").write_bytes(b"x" * 100)
    grown = 0

    def grow() -> None:
        nonlocal grown
        grown += 1
        with (tmp_path / "log").open("ab") as file:
            file.write(b"x" * 100)

    with pytest.raises(TransportError, match="log: more than the 1000 bytes"):
        LocalFetcher(str(tmp_path)).fetch(_request("log"), grow)
    assert grown == 10


def test_the_deadline_ends_a_read_and_the_decoding_of_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    late = Request("file", 1000, time.monotonic())
    with pytest.raises(DeadlineExceeded, match="file: unfinished at the deadline"):
        LocalFetcher(str(tmp_path)).fetch(late)
    frame = empty_blocks(1 << 16, b"hello")
    request = _request("file", len(frame))
    (tmp_path / "file").write_bytes(frame)

    def accept(body: bytes) -> bytes:
        return decode(body, 5, still_wanted("file", time.monotonic()))

    with pytest.raises(DeadlineExceeded):
        LocalFetcher(str(tmp_path)).fetch(request._replace(accept=accept))
