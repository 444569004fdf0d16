"""Repeated log records are written once a minute, with their count. The tests set the clock."""

import logging

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.daemon.log import INTERVAL, MOST_KINDS, RepeatFilter, _OneLine


class Written:
    """A log filter, its clock, and the lines that have passed it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.filter = RepeatFilter(lambda: self.now, lambda _, text: self.lines.append(text))

    def say(self, message: str, level: int = logging.WARNING) -> None:
        record = logging.LogRecord("lazyfs.fuse", level, "", 0, message, None, None)
        if self.filter.filter(record):
            self.lines.append(message)


def test_a_repeated_record_is_written_once_a_minute_and_counted() -> None:
    log = Written()
    for second in range(180):
        log.now = float(second)
        for object_ in range(10):
            log.say(f"EIO: Outage: data/ab/{object_:062x}: every path is down")
    log.now = 180.0
    log.filter.tell_repeats()
    first = f"EIO: Outage: data/ab/{0:062x}: every path is down"
    assert log.lines == [first, f"{first} (599 more like this in 60 s)"] * 3


def test_what_differs_in_kind_is_written() -> None:
    log = Written()
    said = [
        "proxy http://10.0.0.1:3128: down",
        "proxy http://10.0.0.2:3128: down",
        "proxy http://10.0.0.2:3129: down",
        "EIO: Outage: x",
        "EIO: DeadlineExceeded: x",
    ]
    for line in said:
        log.say(line)
    log.say(said[0], logging.ERROR)
    assert log.lines == [*said, said[0]]


def test_what_is_not_repeated_is_not_counted() -> None:
    log = Written()
    log.say("once")
    log.now = INTERVAL + 1
    log.filter.tell_repeats()
    log.say("again")
    assert log.lines == ["once", "again"]


@given(st.lists(st.text(min_size=1), max_size=60), st.integers(1, 5))
def test_every_record_is_written_or_counted(kinds: list[str], times: int) -> None:
    log = Written()
    for _ in range(times):
        for kind in kinds:
            log.say(kind)
    passed = len(log.lines)
    log.now = INTERVAL
    log.filter.tell_repeats()
    counted = sum(int(line.rpartition("(")[2].partition(" ")[0]) for line in log.lines[passed:])
    assert passed + counted == times * len(kinds)


def test_kinds_without_end_are_bounded() -> None:
    log = Written()
    for number in range(5 * MOST_KINDS):
        log.say(f"name-{number} is odd")
    assert len(log.lines) == MOST_KINDS
    log.now = INTERVAL
    log.filter.tell_repeats()
    assert log.lines[MOST_KINDS:] == [f"records of other kinds ({4 * MOST_KINDS} more like this in 60 s)"]


def test_a_line_of_the_log_is_a_line_whatever_is_named_in_it() -> None:
    record = logging.LogRecord("n", logging.INFO, "", 0, "%s", ("a\n2026 INFO forged\x1b[2J\x9b",), None)
    shown = _OneLine().format(record)
    assert shown.endswith(r"a\n2026 INFO forged\x1b[2J\x9b")
