"""The output of status and top for a mount."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.cli.mount_text import health_lines, shown_count, shown_time, status_lines
from lazyfs.cli.top_text import WIDTH, top_lines
from lazyfs.daemon.status import MountStatus

HOSTILE = "n\x1b]0;x\x07\r\n\x9b\u202e" + "long" * 40
"""A long name with an escape sequence, a C1 control, a change of writing direction, and a line break."""


def member(name: str, kind: str, state: str) -> dict[str, object]:
    why = "" if state == "up" else "connection refused (from http://s1/r)"
    return {
        "name": name, "kind": kind, "group": 0, "state": state, "why": why, "for_seconds": 300.0,
        "retry_in": 4.2, "answers": 1, "bytes": 1, "latency_ms": 12.0 if kind == "origin" else None,
        "faults": {}, "last_fault": "",
    }  # fmt: skip


def mount(name: str = "repo.example", *, read: int = 0, lookups: int = 0, waits: bool = False) -> MountStatus:
    chain = {
        "members": [member("http://p1:3128", "proxy", "down"), member("http://s1/r", "origin", "up")],
        "outage_seconds": 130.0, "requests": 1, "attempts": 1, "failed_requests": 0, "hedges": 0,
        "hedges_won": 0, "healed": 0, "faults": {},
    }  # fmt: skip
    trust = {
        "repository": name, "revision": 7, "published": 0, "root_version": 1, "timestamp_version": 1,
        "expires": 0, "expired": False, "refreshed": 0.0, "error": "", "problem": "",
    }  # fmt: skip
    guesses = {
        "guessed": 4, "guessed_bytes": 4096, "used": 3, "used_bytes": 3072, "wasted": 1, "wasted_bytes": 1024,
        "dropped": 2,
    }  # fmt: skip
    repository = {
        "url": "http://s1/r", "revision": 7, "published": 0, "root": "00", "root_size": 1, "looked": 0.0,
        "warning": name, "namespace": "", "trust": trust,
        "chain": chain, "guesses": guesses, "profiles": {"fetched": 0, "failed": 0, "given_up": 0},
    }  # fmt: skip
    counters = {
        "upcalls": {"LOOKUP": lookups}, "faults": {"Outage": 3}, "misses": 5, "fetched_bytes": 1,
        "read_bytes": read, "interrupted": 0, "malformed": 0, "notified": 0, "wait_seconds": 0.0,
        "waits": [0] * 11,
    }  # fmt: skip
    waiting = {name: {"calls": 2, "objects": 3, "longest": 12.0}} if waits else {}
    fields = {
        "mountpoint": f"/mnt/{name}", "source": "http://s1/r", "session": "direct", "pid": 12,
        "uptime": 4000.0, "successions": 0, "repositories": {name: repository}, "counters": counters,
        "memory": {"slots": 1, "catalogs": 1, "catalog_bytes": 1}, "journal": "", "waiting": waiting,
        "cache": {"state": "on", "limit": 4 << 30, "charged": 1 << 30},
    }  # fmt: skip
    return msgspec.convert(fields, MountStatus)


def test_guesses_are_counted() -> None:
    line = "  guessed: 4 objects, 4.0 KiB; not read so far: 1 object, 1.0 KiB; not fetched: 2"
    assert line in status_lines(mount())


def test_health_comes_first_and_names_the_way_to_the_bytes() -> None:
    lines = list(health_lines(mount(waits=True)))
    assert lines[0] == "repo.example: revision 7 of 1970-01-01 00:00 UTC"
    assert "  no path has worked for 2.2 min" in lines
    down = (
        "  proxy http://p1:3128: down for 5.0 min: connection refused (from http://s1/r); tried again in 4 s"
    )
    assert down in lines
    assert "  origin http://s1/r: up, 12 ms" in lines
    assert "faults: Outage 3" in lines
    assert "waiting: 2 calls for 3 objects of repo.example, the longest for 12 s" in lines
    assert any(line.startswith("cache: 1.0 GiB of 4.0 GiB") for line in lines)


def test_top_scales_rates_and_puts_the_kernels_words_last() -> None:
    lines = top_lines(mount(), mount(read=3 << 20, lookups=2_500_000), 2.0)
    assert any(line.split() == ["read", "by", "programs", "3.0", "MiB", "1.5", "MiB"] for line in lines)
    assert any(line.split() == ["LOOKUP", "2.5M", "1.2M"] for line in lines)
    health = next(number for number, line in enumerate(lines) if "proxy" in line)
    assert health < lines.index(next(line for line in lines if "LOOKUP" in line))
    assert lines[0].startswith("/mnt/repo.example")


def test_top_fits_a_terminal_and_acts_on_none() -> None:
    lines = top_lines(mount(HOSTILE), mount(HOSTILE, waits=True), 1.0)
    assert max(map(len, lines)) <= WIDTH
    assert all(line.isprintable() for line in lines)


def test_status_shows_every_repository() -> None:
    assert any("revision 7" in line for line in status_lines(mount("other.example")))


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (1.5, "1.5"),
        (2.5e6, "2.5M"),
    ],
)
def test_counts_are_scaled(count: float, shown: str) -> None:
    assert shown_count(count) == shown


@given(st.floats(0, 1e15))
def test_a_count_is_short(count: float) -> None:
    assert len(shown_count(round(count, 1))) <= 7


@pytest.mark.parametrize(
    ("seconds", "shown"), [(3, "3 s"), (150, "2.5 min"), (9000, "2.5 h"), (2e5, "2.3 d")]
)
def test_times_are_scaled(seconds: float, shown: str) -> None:
    assert shown_time(seconds) == shown
