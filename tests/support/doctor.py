"""Runs single checks of the doctor on settings that a test writes."""

from collections.abc import Callable

from lazyfs.daemon.wanted_settings import WantedSettings
from lazyfs.node.doctor import CHECKS, Check, examine
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings

Config = Callable[..., WantedSettings]
"""A function that writes its arguments into a settings file, and returns the settings read from that file."""


def checks(*names: str) -> list[Check]:
    found = [check for check in CHECKS if check.name in names]
    assert len(found) == len(names)
    return found


def found(wanted: WantedSettings | None, *names: str) -> list[Finding]:
    return examine(Surroundings([], [wanted] if wanted else []), checks(*names))


def only(findings: list[Finding], level: Level, wrong: str, do: str) -> None:
    """Asserts that there is exactly one finding, of this level, whose fault contains `wrong` and whose remedy
    contains `do`."""
    assert [finding.level for finding in findings] == [level], findings
    assert wrong in findings[0].wrong, findings
    assert do in findings[0].do, findings
