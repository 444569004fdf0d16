"""The doctor's checks one by one, over settings of a test's own."""

from collections.abc import Callable

from lazyfs.daemon.wanted_settings import WantedSettings
from lazyfs.node.doctor import CHECKS, Check, examine
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings

Config = Callable[..., WantedSettings]
"""Makes the settings of a file from its fields."""


def checks(*names: str) -> list[Check]:
    found = [check for check in CHECKS if check.name in names]
    assert len(found) == len(names)
    return found


def found(wanted: WantedSettings | None, *names: str) -> list[Finding]:
    return examine(Surroundings([], [wanted] if wanted else []), checks(*names))


def only(findings: list[Finding], level: Level, wrong: str, do: str) -> None:
    """Checks that there is one finding, with these texts in it."""
    assert [finding.level for finding in findings] == [level], findings
    assert wrong in findings[0].wrong, findings
    assert do in findings[0].do, findings
