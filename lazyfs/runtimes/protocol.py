"""The seam between what is to be started and the program that starts it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.launch import Launch


@dataclass(frozen=True, slots=True)
class RuntimeProbe:
    """What a trial of the runtime on this machine gave."""

    runtime: str
    usable: bool
    says: str
    """Its version, or why it cannot be used and what to do."""


@dataclass(frozen=True, slots=True)
class RuntimePlan:
    """A command line ready to be started."""

    argv: tuple[str, ...]
    """Visible to everyone on the machine, so it holds neither environment nor binds."""
    arguments: tuple[str, ...]
    """Handed over through a descriptor, in place of ARGUMENTS_FD in argv."""
    command: tuple[str, ...]
    """The program and its arguments, last in the command line."""

    ARGUMENTS_FD = "{arguments}"
    STATUS_FD = "{status}"


class Runtime(Protocol):
    """Turns a Launch into a command line. It starts nothing but its own probe."""

    name: str

    def probe(self) -> RuntimeProbe: ...

    def plan(self, launch: Launch) -> RuntimePlan:
        """Raises UsageError where the launch cannot be done, e.g. a bind over a file of another kind."""
        ...


def choose(runtimes: Sequence[Runtime], wanted: str | None) -> tuple[Runtime, list[RuntimeProbe]]:
    """The first usable runtime, or the one asked for, and what every probe on the way said.

    Raises UsageError with all their reasons if there is none.
    """
    known = [runtime.name for runtime in runtimes]
    if wanted is not None and wanted not in known:
        raise UsageError(f"runtime {wanted!r} is not known; choose one of: {', '.join(known)}")
    probes = []
    for runtime in runtimes:
        if wanted in (None, runtime.name):
            probes.append(runtime.probe())
            if probes[-1].usable:
                return runtime, probes
    reasons = "; ".join(f"{probe.runtime}: {probe.says}" for probe in probes)
    raise UsageError(f"no usable runtime on this machine: {reasons}")
