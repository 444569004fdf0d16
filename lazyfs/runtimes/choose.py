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
    """The chosen runtime, its plan, and the results for the other runtimes that were tried."""

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
    """Returns the first of the runtimes that works here, can make the launch, and has the level `isolation`.

    `check`: returns the checks of a runtime's isolation; called only for levels that need a probe.
    `thorough`: True to probe the runtimes after the chosen one too. Raises UsageError with the reason of
    every runtime if none fits, and for a launch that no runtime could make.
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
            plan = runtime.plan(_with_gpus(runtime, launch))
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


def _with_gpus(runtime: Runtime, launch: Launch) -> Launch:
    """Returns the launch unchanged for a runtime that knows GPUs, else with binds of their devices and
    libraries."""
    if not launch.gpus or getattr(runtime, "knows_gpus", False):
        return launch
    from lazyfs.runtimes.enclosed import executable_of
    from lazyfs.runtimes.gpus import with_gpus

    return with_gpus(launch, executable_of(("nvidia-container-cli",)))


def _lacking(runtime: Runtime, isolation: str, check: Callable[[Runtime], Sequence[Check]]) -> list[str]:
    """Returns the reasons why the runtime lacks the level `isolation`; empty if it has the level, or if the
    level needs no probe."""
    if isolation not in PROBED:
        return []
    try:
        return failures(tuple(check(runtime)), isolation)
    except LazyfsError as error:
        return [str(error)]
