"""The embedded origin over real sockets: it follows RFC 9110, and serves nothing but the store."""

import http.client
import os
import queue
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.store.origin_server import FOREVER, TIMESTAMP_CACHE, Origin
from lazyfs.store.request_counters import Served
from lazyfs.store.served_files import check_store
from lazyfs.system.listening_server import parse_address
from tests.support.cli import LAZYFS

OBJECT = "data/ab/" + "c" * 62
SMALL = b"0123456789"
LARGE = os.urandom(3 << 20)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    (store / "data" / "ab").mkdir(parents=True)
    (store / "metadata").mkdir()
    (store / OBJECT).write_bytes(SMALL)
    (store / "data" / "ab" / "large").write_bytes(LARGE)
    (store / "metadata" / "timestamp.json").write_bytes(b"{}")
    (store / "metadata" / "1.root.json").write_bytes(b"{}")
    (store / ".lock").write_bytes(b"holder")
    (tmp_path / "secret").write_bytes(b"secret")
    return store


@pytest.fixture
def origin(directory: Path) -> Iterator[Origin]:
    with Origin(str(directory)).running() as origin:
        yield origin


def ask(
    origin: Origin, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    host, port = origin.server_address[:2]
    connection = http.client.HTTPConnection(str(host), port, timeout=10)
    try:
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("name", "content"), [(OBJECT, SMALL), ("data/ab/large", LARGE)])
def test_objects_come_whole_and_may_be_kept_for_ever(origin: Origin, name: str, content: bytes) -> None:
    answer, body = ask(origin, "/" + name)
    assert (answer.status, body) == (200, content)
    assert answer.headers["Cache-Control"] == FOREVER
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Accept-Ranges"] == "bytes"
    answer, body = ask(origin, "/" + name, "HEAD")
    assert (answer.status, body, answer.headers["Content-Length"]) == (200, b"", str(len(content)))


def test_the_timestamp_is_kept_for_seconds_only(origin: Origin) -> None:
    assert ask(origin, "/metadata/timestamp.json")[0].headers["Cache-Control"] == TIMESTAMP_CACHE
    assert ask(origin, "/metadata/1.root.json")[0].headers["Cache-Control"] == FOREVER


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, SMALL, "bytes 0-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=5-2", 200, SMALL, None),
        ("bytes=" + "9" * 5000 + "-", 416, b"", "bytes */10"),
        ("bytes=2-" + "9" * 5000, 206, SMALL[2:], "bytes 2-9/10"),
        ("bytes=-" + "9" * 5000, 206, SMALL, "bytes 0-9/10"),
        ("bytes=" + "9" * 5000 + "-0", 200, SMALL, None),
        ("bytes=\u00b2-3", 200, SMALL, None),
        ("bytes=-", 200, SMALL, None),
        ("bytes=0-1,3-4", 200, SMALL, None),
        ("lines=0-1", 200, SMALL, None),
    ],
)
def test_ranges(origin: Origin, wanted: str, status: int, body: bytes, content_range: str | None) -> None:
    answer, got = ask(origin, "/" + OBJECT, Range=wanted)
    assert (answer.status, got, answer.headers["Content-Range"]) == (status, body, content_range)


def test_a_range_of_a_large_object(origin: Origin) -> None:
    answer, body = ask(origin, "/data/ab/large", Range="bytes=1000000-2999999")
    assert (answer.status, body) == (206, LARGE[1_000_000:3_000_000])


def test_a_resumed_download_gets_the_rest_only_of_the_same_file(origin: Origin, directory: Path) -> None:
    etag = ask(origin, "/" + OBJECT)[0].headers["ETag"]
    assert ask(origin, "/" + OBJECT, Range="bytes=5-", If_Range=etag)[1] == b"56789"
    (directory / OBJECT).write_bytes(b"another, longer one")
    answer, body = ask(origin, "/" + OBJECT, Range="bytes=5-", If_Range=etag)
    assert (answer.status, body) == (200, b"another, longer one")


def test_what_the_client_has_is_not_sent_again(origin: Origin, directory: Path) -> None:
    first = ask(origin, "/" + OBJECT)[0].headers
    for headers in (
        {"If_None_Match": first["ETag"]},
        {"If_None_Match": f'"x", W/{first["ETag"]}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": first["Last-Modified"]},
    ):
        answer, body = ask(origin, "/" + OBJECT, **headers)
        assert (answer.status, body, answer.headers["ETag"]) == (304, b"", first["ETag"])
    for headers in (
        {"If_None_Match": '"x"', "If_Modified_Since": first["Last-Modified"]},
        {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_Modified_Since": "yesterday"},
    ):
        assert ask(origin, "/" + OBJECT, **headers)[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/data",
        "/data/",
        "/data/ab",
        "/data/ab/",
        "/metadata/",
        "/.lock",
        "/secret",
        "/../secret",
        "/data/../../secret",
        "/data/..%2f..%2fsecret",
        "/data/%2e%2e/.lock",
        "//data/ab",
        "/data/link",
        "/data/out/secret",
        "/data/within/large",
        "/metadata/up/secret",
        "/data/fifo",
        "/data/.hidden",
        "/metadata/2.root.json",
        "/metadata/timestamp.json?x",
        "/data/ab/\x00",
    ],
)
def test_nothing_but_files_of_the_store_is_served(origin: Origin, directory: Path, path: str) -> None:
    (directory / "data" / "link").symlink_to(directory.parent / "secret")
    (directory / "data" / "out").symlink_to(directory.parent)
    (directory / "data" / "within").symlink_to("ab")
    (directory / "metadata" / "up").symlink_to("../..")
    (directory / "data" / ".hidden").write_bytes(b"x")
    os.mkfifo(directory / "data" / "fifo")
    with socket.create_connection(origin.server_address[:2], 10) as raw:  # type: ignore[arg-type]
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert b"secret" not in answer
    assert b"holder" not in answer


def test_proxies_may_remember_that_there_is_no_newer_root_but_not_that_an_object_is_missing(
    origin: Origin,
) -> None:
    assert ask(origin, "/metadata/2.root.json")[0].headers["Cache-Control"] == "public, max-age=60"
    assert ask(origin, "/data/ab/missing")[0].headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_only_reading(origin: Origin, method: str) -> None:
    answer, _ = ask(origin, "/" + OBJECT, method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_one_connection_serves_many_requests(origin: Origin) -> None:
    host, port = origin.server_address[:2]
    connection = http.client.HTTPConnection(str(host), port, timeout=10)
    for path, status in [(OBJECT, 200), ("data/ab/none", 404), ("data/ab/large", 200), (OBJECT, 200)]:
        connection.request("GET", "/" + path)
        local = connection.sock.getsockname()
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        assert connection.sock is not None
        assert connection.sock.getsockname() == local
    connection.close()


def test_counters(origin: Origin) -> None:
    ask(origin, "/" + OBJECT)
    ask(origin, "/" + OBJECT, Range="bytes=0-3")
    ask(origin, "/metadata/timestamp.json")
    ask(origin, "/metadata/2.root.json")
    counters = origin.counters
    assert (counters.requests(), counters.requests("data"), counters.requests(status=404)) == (4, 2, 1)
    assert (counters.bytes(), counters.bytes("data")) == (16, 14)
    assert counters.paths()[OBJECT] == 2


def test_names_that_are_not_there_are_not_kept(origin: Origin) -> None:
    """The origin remembers no missing names. Otherwise, a client that asks for ever new names would fill the
    memory."""
    for number in range(50):
        ask(origin, f"/data/ab/{number}")
        ask(origin, f"/{number}/x")
        ask(origin, f"/data/ab/{number}", "POST")
    ask(origin, "/" + OBJECT)
    counters = origin.counters
    assert counters.paths() == {OBJECT: 1}
    assert (counters.requests(), counters.requests(status=404), counters.requests("other")) == (151, 100, 50)


@pytest.mark.parametrize(
    "field",
    [
        "Content-Length: {length}",
        "Transfer-Encoding: chunked",
        "Content-Length: 0\r\nContent-Length: {length}",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "BREW"])
def test_a_body_is_not_taken_for_a_request(origin: Origin, method: str, field: str) -> None:
    """A proxy may forward a body. If the origin answered that body as a second request, the proxy would give
    the answer to its next client."""
    body = b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"{method} /{OBJECT} HTTP/1.1\r\nHost: x\r\n{field.format(length=len(body))}\r\n\r\n"
    with socket.create_connection(origin.server_address[:2], 10) as raw:  # type: ignore[arg-type]
        raw.sendall(head.encode() + body)
        answer = b""
        with suppress(ConnectionResetError):  # the server resets the connection if it left the body unread
            while part := raw.recv(4096):
                answer += part
    assert answer.count(b"HTTP/1.1 ") == 1
    assert origin.counters.requests("metadata") == 0


def test_what_goes_to_the_log_is_printable(directory: Path) -> None:
    logged: queue.Queue[Served] = queue.Queue()
    with Origin(str(directory), log=logged.put).running() as origin:
        with socket.create_connection(origin.server_address[:2], 10) as raw:  # type: ignore[arg-type]
            raw.sendall(b"GET /\x1b]0;title\x07 HTTP/1.0\r\n\r\n")
            raw.recv(4096)
        assert logged.get(timeout=20).path == "\\x1b]0;title\\x07"


@given(
    st.sampled_from(["Range", "If-Range", "If-None-Match", "If-Modified-Since"]),
    st.one_of(
        st.text(st.characters(max_codepoint=255, exclude_characters="\r\n")),
        st.from_regex(r"bytes=[0-9]{0,25}-[0-9]{0,25}", fullmatch=True),
        st.from_regex(
            r"(Mon, )?[0-9]{1,2} (Jan|Feb|XXX) [0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT| \+9999|)",
            fullmatch=True,
        ),
    ),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_condition_has_an_answer(origin: Origin, name: str, value: str) -> None:
    answer, body = ask(origin, "/" + OBJECT, **{name.replace("-", "_"): value.encode("latin-1")})  # type: ignore[arg-type]
    assert answer.status in (200, 206, 304, 416)
    assert body in SMALL


@pytest.mark.parametrize("place", ["pipe", "metadata/pipe", "data/pipe.pem.x"])
def test_a_pipe_in_the_store_is_not_waited_for(directory: Path, place: str) -> None:
    os.mkfifo(directory / place)
    check_store(str(directory))


def test_a_store_whose_objects_are_elsewhere_is_not_served_empty(directory: Path) -> None:
    (directory / "data").rename(directory.parent / "data")
    (directory / "data").symlink_to(directory.parent / "data")
    with pytest.raises(UsageError, match="data is a link"):
        check_store(str(directory))


def test_bytes_that_a_client_did_not_wait_for_are_not_counted(directory: Path) -> None:
    size = 1 << 28  # larger than the socket buffers of both ends
    with open(directory / "data" / "ab" / "huge", "wb") as file:
        file.truncate(size)
    logged: queue.Queue[Served] = queue.Queue()
    with Origin(str(directory), log=logged.put).running() as origin:
        with socket.create_connection(origin.server_address[:2], 10) as raw:  # type: ignore[arg-type]
            raw.sendall(b"GET /data/ab/huge HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.recv(1)
        served = logged.get(timeout=20)
    assert (served.path, served.status) == ("data/ab/huge", 200)
    assert served.sent == origin.counters.bytes() < size


@pytest.mark.parametrize("place", ["root-ab.pem", "metadata/k.pem.retired", "keys/id", "data/keys/id"])
def test_a_store_with_private_keys_in_it_is_not_served(directory: Path, place: str) -> None:
    check_store(str(directory))
    (directory / place).parent.mkdir(exist_ok=True)
    (directory / place).write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="private key"):
        check_store(str(directory))


def test_a_directory_without_a_repository_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="repo init"):
        Origin(str(tmp_path))


def test_an_address_in_use_is_one_clear_line(origin: Origin) -> None:
    with pytest.raises(UsageError, match="Address already in use"):
        Origin(origin.store, port=origin.server_address[1])


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), (":8000", ("127.0.0.1", 8000))],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["host", "host:", "host:99999", "host:http", "host:" + "9" * 5000, "host:\u00b2", "h:-1"]
)
def test_bad_listen_addresses(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(directory: Path, number: signal.Signals) -> None:
    command = [*LAZYFS, "serve", str(directory), "--listen", "127.0.0.1:0", "--access-log", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split(" at ")[1].split()[0]
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        connection.request("GET", "/" + OBJECT)
        assert connection.getresponse().read() == SMALL
        assert process.stdout.readline() == f"GET {OBJECT} 200 10\n"
        process.send_signal(number)  # the connection is still open, and must not delay the end
        out, err = process.communicate(timeout=20)
        connection.close()
    assert (process.returncode, err) == (0, "")
    assert out == "served 1 requests, 10 bytes\n"
