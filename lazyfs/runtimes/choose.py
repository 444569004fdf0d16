"""Chooses a runtime that works on this machine and can make the start that is wanted."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.runtimes.isolation import PROBED, failures
from lazyfs.runtimes.isolation import Check as Check
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import Runtime, RuntimePlan, RuntimeProbe, Unfit


class NoRuntime(UsageError):
    """No runtime of this machine can make the start."""


class Rejection(NamedTuple):
    """A runtime that is not used, and the reason."""

    runtime: str
    reason: str


class Choice(NamedTuple):
    """The chosen runtime and everything that was found on the way."""

    runtime: Runtime
    plan: RuntimePlan
    probes: tuple[RuntimeProbe, ...]
    rejected: tuple[Rejection, ...]


def choose(
    runtimes: Iterable[Runtime],
    launch: Launch,
    isolation: str,
    check: Callable[[Runtime], Sequence[Check]],
    *,
    thorough: bool = False,
) -> Choice:
    """Returns the first of the runtimes that works here, can make the launch, and has the isolation.

    `check`: tries a runtime's isolation; called only for the levels that need it. `thorough`: the runtimes
    after the chosen one are tried too. Raises UsageError with the reason of every runtime if there is none,
    and for a launch that no runtime could make.
    """
    probes: list[RuntimeProbe] = []
    rejected: list[Rejection] = []
    chosen: tuple[Runtime, RuntimePlan] | None = None
    for runtime in runtimes:
        probe = runtime.probe()
        probes.append(probe)
        if not probe.usable:
            rejected.append(Rejection(runtime.name, probe.says))
            continue
        if chosen is not None:
            continue
        try:
            plan = runtime.plan(launch)
            lacking = _lacking(runtime, isolation, check)
        except Unfit as error:
            rejected.append(Rejection(runtime.name, str(error)))
            continue
        if lacking:
            rejected.append(Rejection(runtime.name, f"fails {isolation}: {'; '.join(lacking)}"))
            continue
        chosen = runtime, plan
        if not thorough:
            break
    if chosen is not None:
        return Choice(*chosen, tuple(probes), tuple(rejected))
    reasons = "; ".join(f"{found.runtime}: {found.reason}" for found in rejected)
    raise NoRuntime(f"no usable runtime on this machine: {reasons}")


def _lacking(runtime: Runtime, isolation: str, check: Callable[[Runtime], Sequence[Check]]) -> list[str]:
    """Returns the reasons why the runtime does not have the level of isolation; none if it has."""
    if isolation not in PROBED:
        return []
    try:
        return failures(tuple(check(runtime)), isolation)
    except LazyfsError as error:
        return [str(error)]
