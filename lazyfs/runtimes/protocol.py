"""The interface of runtimes, between a start and the program that carries it out."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.enclosure import Enclosure
from lazyfs.runtimes.joined_directories import CompletedImage
from lazyfs.runtimes.launch import Launch, check_argument
from lazyfs.runtimes.pinned_root import PinnedRoot


class Unfit(UsageError):
    """This runtime cannot make a start that another one may be able to make."""


RUNTIME_FAILED = 125
"""The exit code if the program was never started, as in docker and podman."""


@dataclass(frozen=True, slots=True)
class RuntimeProbe:
    """The result of trying the runtime on this machine."""

    runtime: str
    usable: bool
    says: str
    """The runtime's version, or the reason why it cannot be used, with a remedy."""


@dataclass(frozen=True, slots=True)
class RuntimePlan:
    """A command line ready to be started."""

    options: tuple[str, ...]
    """The runtime's name and options. Every user of the machine can see them, so they hold neither
    environment nor binds. A key of `files` stands for the number of a descriptor, and so does STATUS."""
    command: tuple[str, ...]
    """The program and its arguments, last in the command line."""
    shown: tuple[str, ...]
    """The whole command line for people, including the arguments that are passed through a descriptor."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Placeholder in the options -> content of an unnamed file that the runtime inherits."""

    user: tuple[int, int] | None = None
    """Ids of the user and group that the runtime is started as; None for the caller's."""
    held: tuple[PinnedRoot, ...] = ()
    """Parts of the image, open, that the runtime inherits."""
    completed: CompletedImage | None = None
    """The image with names that it lacks, if the runtime cannot add them itself: `complete` is called before
    the runtime."""
    reachable: tuple[str, ...] = ()
    """Parts of the machine that the program can reach without a bind, in words for people."""
    enclosure: Enclosure | None = None
    """The surroundings that are made for the runtime; None if the runtime makes all that it needs itself."""

    STATUS = "{status}"
    """Placeholder of the descriptor that the runtime writes its status to."""

    def __post_init__(self) -> None:
        """Raises UsageError for an argument that the kernel or the runtime would take for two."""
        nul_separated((*self.options, *self.command, *self.shown))


def nul_separated(arguments: Iterable[str]) -> bytes:
    """Returns the arguments in the form that a runtime reads from a descriptor: each ends with a NUL.

    Every runtime uses this as the last check. Raises UsageError for an argument with a NUL in it, which would
    be read as another option, and for an argument that cannot be encoded as a file name.
    """
    return b"".join(os.fsencode(check_argument(argument, "argument")) + b"\0" for argument in arguments)


class RuntimeExit(NamedTuple):
    """The end of the runtime's own process."""

    code: int
    """The process's exit code; -N if signal N ended it."""
    status: bytes
    """The content that the runtime wrote to the descriptor of RuntimePlan.STATUS."""


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """The end of a start."""

    exit_code: int
    """The program's exit code; 128 + N if signal N ended it; RUNTIME_FAILED if it was never started."""
    started: bool
    """False if the runtime failed before the program ran; its message is on stderr."""
    failed: str | None = None
    """One of `result.FAILURES`, if it does not follow from the other fields."""


class Runtime(Protocol):
    """One way to run a program in a root filesystem. The rest of the code knows runtimes only by this
    class."""

    name: str

    def probe(self) -> RuntimeProbe:
        """Tries the runtime on this machine; leaves no process behind."""
        ...

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the command line. Raises UsageError for a launch that is not possible, for example with a
        bind that would cover a file of another kind; Unfit for one that this runtime cannot make."""
        ...

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        """Runs the plan to its end on this process's streams. Signals sent to this process reach the program.

        Call it from the main thread of a process that leaves SIGCHLD alone.
        """
        ...

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end, or the runtime's own failure, from the end of the runtime's process."""
        ...
