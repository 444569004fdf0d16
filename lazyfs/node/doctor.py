"""The doctor: runs every check over a machine and its mounts, side by side, each in a child process."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from lazyfs.node.checks import (
    cache_disk,
    clock,
    files,
    fuse,
    limits,
    mounts,
    names,
    namespaces,
    paths,
    sockets,
    trust,
)
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings
from lazyfs.system.bounded_look import Answer, ask_each

SECONDS = 12.0
"""Seconds that all gatherers together may take: they run at the same time, and the one that asks the network
gives up after 8 s."""


class Check(NamedTuple):
    """The check of one subject: the function that gathers its facts, and the one that judges them."""

    name: str
    facts: Any
    """The type of the facts."""
    gather: Callable[[Surroundings], Any]
    """Finds the facts. Runs in a child process that is left behind if it hangs; changes nothing."""
    judge: Callable[[Any], Iterable[Finding]]
    """Returns the faults that the facts show. Pure, so that each fault can be tested without making it."""


CHECKS = (
    Check("fuse", fuse.FuseFacts, fuse.gather, fuse.judge),
    Check("namespaces", namespaces.NamespaceFacts, namespaces.gather, namespaces.judge),
    Check("limits", list[limits.ProcessLimits], limits.gather, limits.judge),
    Check("mounts", list[mounts.MountFacts], mounts.gather, mounts.judge),
    Check("runtime directory", sockets.SocketFacts, sockets.gather, sockets.judge),
    Check("cache", list[cache_disk.CacheFacts], cache_disk.gather, cache_disk.judge),
    Check("files", list[files.FileFacts], files.gather, files.judge),
    Check("names", list[names.LookedUp], names.gather, names.judge),
    Check("paths", list[paths.Way], paths.gather, paths.judge),
    Check("clock", list[paths.Way], paths.gather, clock.judge),
    Check("trust", list[trust.TrustFacts], trust.gather, trust.judge),
)
"""Every check, in the order in which findings of one level are shown. Checks with the same gatherer share its
facts."""


def examine(found: Surroundings, checks: Sequence[Check] = CHECKS, seconds: float = SECONDS) -> list[Finding]:
    """Returns the findings, the worst first. A check that fails, or does not end within `seconds`, is a
    finding too."""
    gatherers = list(dict.fromkeys(check.gather for check in checks))
    questions = [_question(gather, found) for gather in gatherers]
    answers = ask_each(questions, seconds, patience=seconds, enough=lambda _: False)
    facts = dict(zip(gatherers, answers, strict=True))
    findings = [
        msgspec.structs.replace(finding, check=check.name)
        for check in checks
        for finding in _judged(check, facts[check.gather], seconds)
    ]
    order = list(Level)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def _question(gather: Callable[[Surroundings], Any], found: Surroundings) -> Callable[[], Any]:
    def ask() -> Any:
        try:
            return {"facts": msgspec.to_builtins(gather(found))}
        except Exception as bug:  # noqa: BLE001 - a machine that no test has seen: the other checks go on
            return {"bug": f"{type(bug).__name__}: {bug}"}

    return ask


def _judged(check: Check, answer: Answer, seconds: float) -> list[Finding]:
    if not answer.came:
        wrong = f"the check of {check.name} did not end in {seconds:g} s: something that it looks at hangs"
        return [
            Finding(
                Level.WARNING, wrong, "look for processes in state D (ps -eo pid,stat,wchan,cmd), and again"
            )
        ]
    if "bug" in answer.value:
        wrong = f"the check of {check.name} failed: {answer.value['bug']}"
        return [Finding(Level.WARNING, wrong, "report it with lazyfs bugreport")]
    return list(check.judge(msgspec.convert(answer.value["facts"], check.facts)))
