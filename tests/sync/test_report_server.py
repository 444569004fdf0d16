"""The collector's server accepts reports only from reporters that the operator named, and limits what they
may send."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.core.start_reports.report import MOST_BODY, StartReport, TouchedFile, encode
from lazyfs.store import StoreError
from lazyfs.sync.collecting.report_server import ReportServer
from lazyfs.sync.collecting.reporters import HOUR, MOST_AN_HOUR, MOST_REPORTERS, Reporters, read_tokens
from tests.support.tls import Authority, Pair

TOKEN = "0123456789abcdef-of-a-site"
REPORT = encode(StartReport(1, "r.example", bytes(32), b"bin/p", (TouchedFile(b"bin/p", (bytes(32),)),)))


class Running:
    """A running server, the reporters whose reports it has taken, and the reasons for which it has refused
    requests."""

    def __init__(self, server: ReportServer, taken: list[str], refused: list[str]) -> None:
        self.server, self.taken, self.refused = server, taken, refused

    def post(
        self,
        body: bytes,
        token: str = TOKEN,
        path: str = "/reports",
        tls: ssl.SSLContext | None = None,
        **fields: str,
    ) -> int:
        """Sends a report; returns the HTTP status of the answer."""
        host, port = self.server.server_address[:2]
        kind: Any = http.client.HTTPConnection
        options: dict[str, Any] = {}
        if tls is not None:
            kind, options = http.client.HTTPSConnection, {"context": tls}
        connection = kind(host, port, timeout=30, **options)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {name.replace("_", "-"): value for name, value in fields.items()}
        try:
            connection.request(
                "POST", path, body, headers | {k.replace("_", "-"): v for k, v in fields.items()}
            )
            return int(connection.getresponse().status)
        finally:
            connection.close()


@contextmanager
def running(tls: ssl.SSLContext | None = None, most: int = 1000, seconds: float = 20.0) -> Iterator[Running]:
    taken: list[str] = []
    refused: list[str] = []
    mutex = threading.Lock()
    left = [most]

    def may_report(_: str) -> bool:
        with mutex:
            left[0] -= 1
            return left[0] >= 0

    def take(report: StartReport, reporter: str) -> None:
        if report.repository == "broken":
            raise StoreError("the store is away")
        taken.append(reporter)

    identify = Reporters({TOKEN: "site"}).identify
    with ReportServer(
        ("127.0.0.1", 0), identify, may_report, take, refused.append, tls=tls, seconds=seconds
    ).running() as server:
        yield Running(server, taken, refused)


def test_who_bears_a_token_is_heard_and_nobody_else() -> None:
    with running() as it:
        assert it.post(REPORT) == 202
        assert it.taken == ["site 127.0.0.1"]
        assert it.post(REPORT, token="") == 401
        assert it.post(REPORT, token=TOKEN[:-1]) == 401
        assert it.post(REPORT, token="", Authorization=f"Basic {TOKEN}") == 401
        assert it.post(REPORT, path="/") == 404
        assert it.post(b"no report") == 400
        assert len(it.taken) == 1
        assert it.refused == ["stranger", "stranger", "stranger", "no such path", "malformed"]


def test_bodies_and_their_number_are_bounded() -> None:
    """A body that is too long is refused by its Content-Length, before it is read. A reporter that sends too
    many reports gets 429."""
    with running(most=2) as it:
        assert it.post(b"", Content_Length=str(MOST_BODY + 1)) == 413
        assert it.post(b"", Content_Length="-1") == 411
        assert [it.post(REPORT) for _ in range(3)] == [202, 202, 429]
        assert len(it.taken) == 2


def test_a_store_that_is_away_is_no_fault_of_the_reporter() -> None:
    broken = encode(StartReport(1, "broken", bytes(32), b"bin/p", (TouchedFile(b"p", (bytes(32),)),)))
    with running() as it:
        assert it.post(broken) == 503
        assert it.post(REPORT) == 202


def server_context(pair: Pair, authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def test_a_client_certificate_is_a_reporter(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    with running(server_context(authority.server(), authority)) as it:
        plain = ssl.create_default_context(cafile=str(authority.ca))
        assert it.post(REPORT, tls=plain) == 202
        assert it.post(REPORT, token="", tls=plain) == 401
        bearer = ssl.create_default_context(cafile=str(authority.ca))
        mine = authority.client("worker-7")
        bearer.load_cert_chain(mine.cert, mine.key)
        assert it.post(REPORT, token="", tls=bearer) == 202
        assert it.taken[-1].endswith("worker-7 127.0.0.1")
        stranger = ssl.create_default_context(cafile=str(authority.ca))
        wrong = other.client()
        stranger.load_cert_chain(wrong.cert, wrong.key)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            it.post(REPORT, token="", tls=stranger)
        assert len(it.taken) == 2


@pytest.mark.parametrize("spoken", [b"", b"\x16\x03\x01"])
def test_a_client_that_says_nothing_over_tls_is_cut_off(tmp_path: Path, spoken: bytes) -> None:
    authority = Authority(tmp_path / "ca")
    with (
        running(server_context(authority.server(), authority), seconds=0.5) as it,
        socket.create_connection(("127.0.0.1", it.server.server_address[1]), timeout=30) as silent,
    ):
        silent.sendall(spoken)
        assert silent.recv(1) == b""


def test_tokens_lie_in_a_file_that_nobody_else_reads(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# who\nsite {TOKEN}\n\nother.site {TOKEN}2\n")
    file.chmod(0o600)
    assert read_tokens(str(file)) == {TOKEN: "site", f"{TOKEN}2": "other.site"}
    for mode, text, said in (
        (0o644, "", "others can read it"),
        (0o600, "# nobody\n", "no line"),
        (0o600, "site short\n", "line 1"),
        (0o600, f"site {TOKEN} more\n", "line 1"),
    ):
        file.write_text(text)
        file.chmod(mode)
        with pytest.raises(UsageError, match=said) as error:
            read_tokens(str(file))
        assert TOKEN not in str(error.value)
    with pytest.raises(UsageError, match="No such file"):
        read_tokens(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_one_machine_is_one_reporter(address: str, same: str) -> None:
    identify = Reporters({TOKEN: "site"}).identify
    bearer = f"Bearer {TOKEN}"
    assert identify(bearer, None, address) == identify(bearer, None, same)
    assert identify(bearer, None, address) != identify(bearer, None, "198.51.100.1")


@given(st.lists(st.floats(0, HOUR), max_size=200))
def test_reports_of_an_hour_are_bounded(pauses: list[float]) -> None:
    reporters, now = Reporters({}), 0.0
    taken: list[float] = []
    for pause in pauses:
        now += pause / 20
        if reporters.may_report("one", now):
            taken.append(now)
        assert len([time for time in taken if time > now - HOUR]) <= MOST_AN_HOUR
    assert reporters.may_report("another", now)


def test_the_table_of_reporters_is_bounded() -> None:
    reporters = Reporters({})
    for number in range(MOST_REPORTERS + 100):
        assert reporters.may_report(f"{number}", 0.0)
    assert len(reporters._recent) == MOST_REPORTERS
