"""Figures that tests measure, for the run's last lines.

A test asks for the fixture `measured` and calls it with a line. What a test prints is lost where pytest runs
files side by side: there its output goes to another process.
"""

from collections.abc import Callable, Iterator

import pytest

Measured = Callable[[str], None]
"""Notes a line about the test that calls it."""

_PROPERTY = "measured"


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Returns what notes a line, which pytest prints after all tests."""
    return lambda line: record_property(_PROPERTY, line)


def measured_lines(reports: list[pytest.TestReport]) -> Iterator[str]:
    """Yields the lines that tests have noted, each with the name of its test before it. `reports`: the
    reports of these tests."""
    for report in reports:
        if report.when == "call":
            yield from (
                f"{report.nodeid}: {line}" for name, line in report.user_properties if name == _PROPERTY
            )
