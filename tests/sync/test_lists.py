"""Where lists come from: files, directories, addresses; and what stays in force."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.sync.lists import ListKeeper, expand, load

GOOD = b"version: 1\ninput: ['r.example/a:1']\n"


@contextmanager
def served(status: int, body: bytes, length: int | None = None) -> Iterator[str]:
    """Serves one answer on a loopback port; `length`: the Content-Length that it states."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/list.yaml"
        finally:
            server.shutdown()
            thread.join()


def keeper(directory: Path, name: str) -> ListKeeper:
    """Returns a keeper that has a good content of the list."""
    found = ListKeeper(str(directory / "lists"))
    found.keep(name, GOOD)
    return found


def test_a_list_from_an_address(tmp_path: Path) -> None:
    with served(200, GOOD) as url:
        found = load(url, ListKeeper(str(tmp_path)))
    assert [wish.shown for wish in found.lists.wishes] == ["r.example/a:1"]
    assert found.complete
    assert found.fresh == GOOD


@pytest.mark.parametrize(
    ("status", "body", "length", "said"),
    [
        (404, b"not found", None, "answers 404"),
        (403, GOOD, None, "answers 403"),
        (200, GOOD[:20], len(GOOD), "cut|ended early|incomplete|broken"),
        (200, b"<html>Sign in</html>", None, "HTML"),
        (200, b"", None, "empty"),
        (302, b"", None, "answers 302"),
    ],
)
def test_an_address_without_a_good_list_leaves_the_last_one_in_force(
    tmp_path: Path, status: int, body: bytes, length: int | None, said: str
) -> None:

    with served(status, body, length) as url:
        found = load(url, keeper(tmp_path, url))
    assert found.kept
    assert not found.complete
    assert found.fresh is None
    assert [wish.shown for wish in found.lists.wishes] == ["r.example/a:1"]
    assert re.search(said, found.problems[0].reason), found.problems


def test_a_dead_address_leaves_the_last_one_in_force(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/list.yaml"
    found = load(url, keeper(tmp_path, url))
    assert found.kept
    assert not load(url, ListKeeper(str(tmp_path / "none"))).lists.wishes


def test_a_token_in_an_address_is_shown_nowhere(tmp_path: Path) -> None:
    for status in (200, 500):
        with served(status, GOOD) as url:
            found = load(f"{url}?private_token=hunter2#x", ListKeeper(str(tmp_path)))
        assert found.name == url
        assert "hunter2" not in repr(found)
    with_account = load("https://me:hunter2@r.example/list", ListKeeper(str(tmp_path)))
    assert "hunter2" not in repr(with_account.problems)
    assert "account" in with_account.problems[0].reason


def test_a_directory_stands_for_the_lists_in_it(tmp_path: Path) -> None:
    for name in (
        "b.yaml",
        "a.txt",
        "sub/c.yml",
        "README.txt",
        "LICENSE.txt",
        "notes.md",
        ".hidden.yaml",
        ".git/x.yaml",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(GOOD)
    names = [str(tmp_path / name) for name in ("a.txt", "b.yaml", "sub/c.yml")]
    assert expand([str(tmp_path)]) == names
    assert expand([str(tmp_path), names[1]]) == names
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="without wishlists"):
        expand([str(tmp_path / "none")])


def test_the_last_good_content_is_kept_and_forgotten(tmp_path: Path) -> None:
    lists = ListKeeper(str(tmp_path / "lists"))
    lists.keep("a", GOOD)
    lists.keep("b", b"other")
    assert (lists.last_good("a"), lists.last_good("b"), lists.last_good("c")) == (GOOD, b"other", None)
    lists.forget("a")
    lists.forget("a")
    assert lists.last_good("a") is None
