"""The seam between a program that is to be started and the runtime that starts it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from lazyfs.runtimes.launch import Launch, check_argument

RUNTIME_FAILED = 125
"""Exit code when the program was never started; the one docker and podman use."""


@dataclass(frozen=True, slots=True)
class RuntimeProbe:
    """The result of trying the runtime on this machine."""

    runtime: str
    usable: bool
    says: str
    """Its version, or why it cannot be used and what to do."""


@dataclass(frozen=True, slots=True)
class RuntimePlan:
    """A command line ready to be started."""

    options: tuple[str, ...]
    """The runtime's name and options. Visible to everyone on the machine, so neither environment nor binds
    are among them. A key of `files` stands for the number of a descriptor, as does STATUS."""
    command: tuple[str, ...]
    """The program and its arguments, last in the command line."""
    shown: tuple[str, ...]
    """The whole command line for people, with what goes through a descriptor written out."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Placeholder in the options -> content of an unnamed file that the runtime inherits."""

    user: tuple[int, int] | None = None
    """User and group that the runtime is started as; None leaves the caller's."""
    reachable: tuple[str, ...] = ()
    """Parts of the machine that the program can reach although nobody bound them, for people."""

    STATUS = "{status}"
    """Placeholder of the descriptor that the runtime writes its own account to."""

    def __post_init__(self) -> None:
        """Raises UsageError for an argument that the kernel or the runtime would take for two."""
        nul_separated((*self.options, *self.command, *self.shown))


def nul_separated(arguments: Iterable[str]) -> bytes:
    """Arguments in the form that a runtime reads from a descriptor: each ends with a NUL.

    This is the last guard, for every runtime: raises UsageError for an argument that has a NUL in it, which
    would be read as another option, or that no file name can be.
    """
    return b"".join(os.fsencode(check_argument(argument, "argument")) + b"\0" for argument in arguments)


class RuntimeExit(NamedTuple):
    """The end of the runtime's own process."""

    code: int
    """Its exit code; -N if signal N ended it."""
    status: bytes
    """Its account in the file of RuntimePlan.STATUS."""


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """The end of a start."""

    exit_code: int
    """The program's own; 128 + N if signal N ended it; RUNTIME_FAILED if it was never started."""
    started: bool
    """False: the runtime failed before the program ran, and said so on stderr."""


class Runtime(Protocol):
    """One way to run a program in a root filesystem. All that is particular to it lies behind this."""

    name: str

    def probe(self) -> RuntimeProbe:
        """Tries the runtime on this machine; starts nothing that stays."""
        ...

    def plan(self, launch: Launch) -> RuntimePlan:
        """The command line. Raises UsageError where the launch cannot be done, e.g. a bind that would cover a
        file of another kind."""
        ...

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        """Runs the plan to its end on this process's streams. Signals sent to this process reach the program.

        Call it from the main thread of a process that leaves SIGCHLD alone.
        """
        ...

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Tells the program's end from the runtime's own failure."""
        ...
