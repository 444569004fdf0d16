"""The sources of lists (files, directories, addresses), and the lists that stay in force when a source
fails."""

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.sync.lists import GivenList, ListKeeper, expand, load, shown_name
from lazyfs.sync.removal import Lists

GOOD = b"version: 1\ninput: ['r.example/a:1']\n"


@contextmanager
def served(
    status: int, body: bytes, length: int | None = None, framing: dict[str, str] | None = None
) -> Iterator[str]:
    """Serves one answer on a loopback port. The answer states the Content-Length `length`, or has the fields
    `framing` instead."""
    stated = {"Content-Length": str(len(body) if length is None else length)}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for field, value in (stated if framing is None else framing).items():
                self.send_header(field, value)
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


def answers(data: bytes) -> Callable[[str], bytes]:
    """Returns a function that answers every address with these bytes, in place of a download."""
    return lambda _: data


def keeper(directory: Path, name: str) -> ListKeeper:
    """Returns a keeper that already has good contents of this list."""
    found = ListKeeper(str(directory / "lists"))
    found.keep(shown_name(name), GOOD)
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
        assert re.fullmatch(re.escape(url) + "#query-[0-9a-f]{8}", found.name)
        assert "hunter2" not in repr(found)
    with_account = load("https://me:hunter2@r.example/list", ListKeeper(str(tmp_path)))
    assert "hunter2" not in repr(with_account)
    assert "account" in with_account.problems[0].reason


@pytest.mark.parametrize(
    "address",
    ["https://[::1/l", "https://h:99999/l", "https://h:x/l", "https:///l", "ftp://h/l", "https://h..x/l"],
)
def test_an_address_that_is_none_is_a_finding_without_its_token(tmp_path: Path, address: str) -> None:
    found = load(f"{address}?token=hunter2", keeper(tmp_path, f"{address}?token=hunter2"))
    assert found.problems[0].error
    assert "hunter2" not in repr(found)


def test_addresses_that_differ_in_their_query_are_two_lists(tmp_path: Path) -> None:
    lists = ListKeeper(str(tmp_path))
    other = b"version: 1\ninput: ['r.example/b:1']\n"
    names = []
    for query, content in (("ref=main", GOOD), ("ref=old", other), ("", b"")):
        found = load(f"https://r.example/raw?{query}", lists, answers(content))
        lists.take(found)
        names.append(found.name)
    assert len(set(names)) == 3
    assert names[2] == "https://r.example/raw"
    assert [lists.last_good(name) for name in names] == [GOOD, other, None]
    assert [shown_name(name) for name in names] == names, "--forget takes the shown name too"


def test_a_name_is_complete_only_if_each_of_its_lists_is(tmp_path: Path) -> None:
    lists = ListKeeper(str(tmp_path))
    contents = {"https://h/l#a": GOOD, "https://h/l#b": b"<html>"}
    given = [load(name, lists, contents.__getitem__) for name in contents]
    assert given[0].name == given[1].name
    for order in (given, given[::-1]):
        assert not Lists.of(order, (), ()).complete
    assert Lists.of(given[:1], (), ()).complete == {"https://h/l"}


def test_an_answer_that_states_no_length_may_be_cut(tmp_path: Path) -> None:
    with served(200, GOOD, framing={}) as url:
        found = load(url, keeper(tmp_path, url))
    assert found.kept
    assert "states no length" in found.problems[0].reason


@pytest.mark.parametrize("stated", ["abc", "\u00b2", "-1", "", "9" * 5000])
def test_a_length_that_is_no_number_is_none(tmp_path: Path, stated: str) -> None:
    with served(200, GOOD, framing={"Content-Length": stated}) as url:
        found = load(url, keeper(tmp_path, url))
    assert found.kept
    assert re.search("states no length|cut", found.problems[0].reason)


def test_a_redirect_to_no_address_is_a_problem_of_the_list(tmp_path: Path) -> None:
    with served(302, b"", framing={"Location": "https://["}) as url:
        found = load(url, keeper(tmp_path, url))
    assert found.kept
    assert "'https://[', which is not an address" in found.problems[0].reason


@pytest.mark.parametrize(("end", "whole"), [(b"0\r\n\r\n", True), (b"", False)])
def test_chunks_say_where_a_list_ends(tmp_path: Path, end: bytes, whole: bool) -> None:
    body = b"%x\r\n%s\r\n" % (len(GOOD), GOOD) + end
    with served(200, body, framing={"Transfer-Encoding": "chunked"}) as url:
        found = load(url, keeper(tmp_path, url))
    assert (found.complete, found.kept) == (whole, not whole), found.problems


def many(*numbers: int) -> bytes:
    return "".join(f"r.example/team/a:{number}\n" for number in numbers).encode()


@pytest.mark.parametrize(
    ("left", "doubted"),
    [((1, 2), False), ((1,), True), ((8, 9), True), ((), True), ((1, 2, 3, 4), False)],
)
def test_a_list_that_lost_most_of_its_wishes_is_complete_once_it_is_confirmed(
    tmp_path: Path, left: tuple[int, ...], doubted: bool
) -> None:
    times = [1000.0]
    lists = ListKeeper(str(tmp_path), lambda: times[0])
    short = many(*left) or b"r.example/team/error:1\n"

    def run(data: bytes) -> GivenList:
        found = load("list.txt", lists, answers(data))
        lists.take(found)
        return found

    assert run(many(1, 2, 3)).complete
    first = run(short)
    assert first.complete is not doubted
    if not doubted:
        assert first.fresh == short
        return
    assert {wish.reference.tag for wish in first.lists.wishes} >= {"1", "2", "3"}
    assert "--accept-shorter list.txt" in first.problems[-1].mend
    times[0] += 3599
    assert not run(short).complete
    assert not run(short + b"# other bytes\n").complete
    times[0] += 3600
    assert not run(short).complete, "the time begins with these bytes"
    times[0] -= 100
    assert not run(short).complete, "the clock was put back"
    times[0] += 3600
    assert run(short).complete
    assert run(short).complete


def test_a_list_that_recovers_is_doubted_anew_when_it_is_short_again(tmp_path: Path) -> None:
    times = [1000.0]
    lists = ListKeeper(str(tmp_path), lambda: times[0])
    for data, complete in ((many(1, 2, 3), True), (many(1), False), (many(1, 2, 3), True), (many(1), False)):
        found = load("list.txt", lists, answers(data))
        lists.take(found)
        assert found.complete is complete
        times[0] += 3600
    lists = ListKeeper(str(tmp_path), lambda: 1000.0, {"list.txt"})
    assert load("list.txt", lists, answers(many(1))).complete, "the operator means it"


def test_a_short_list_with_a_bad_line_confirms_nothing(tmp_path: Path) -> None:
    times = [1000.0]
    lists = ListKeeper(str(tmp_path), lambda: times[0], {"list.txt"})
    lists.keep("list.txt", many(1, 2, 3))
    for _ in range(3):
        found = load("list.txt", lists, lambda _: b"r.example/team/a:1\nr.exam")
        lists.take(found)
        assert not found.complete
        assert lists.last_good("list.txt") == many(1, 2, 3)
        times[0] += 3600


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
