"""The interface between a start and the runtime that carries it out."""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.runtimes.enclosure import Enclosure
from lazyfs.runtimes.joined_directories import CompletedImage
from lazyfs.runtimes.launch import Launch, check_argument
from lazyfs.runtimes.limits import KeptLimits
from lazyfs.runtimes.pinned_root import PinnedRoot
from lazyfs.runtimes.records import NOTHING, checked


class Unfit(UsageError):
    """This runtime cannot make a start that another one may be able to make."""


RUNTIME_FAILED = 125
"""The exit code if the program was never started, as in docker and podman."""


class RuntimeFailed(LazyfsError):
    """The runtime's daemon refuses a request, or does not answer any more."""

    exit_code = RUNTIME_FAILED


class RuntimeProbe(NamedTuple):
    """The result of trying the runtime on this machine."""

    runtime: str
    usable: bool
    says: str
    """The runtime's version; or the reason why it cannot be used, and the remedy."""
    abilities: frozenset[str] = frozenset()
    """Names, chosen by the runtime, of the features that only some of its versions have and this one has."""


class Attendant(Protocol):
    """Deals with a daemon that owns the container of a start. It is needed because no part of the container
    ends with a process of ours."""

    def make(self) -> None:
        """Makes the container, before the runtime's command is started. Raises RuntimeFailed."""
        ...

    def report(self) -> bytes:
        """Returns the content for RuntimeExit.status; called after the command's end. Raises
        RuntimeFailed."""
        ...

    def programs(self) -> list[int]:
        """Returns the ids of the processes that get the caller's signals; none if no program runs, or if the
        daemon does not answer."""
        ...

    def is_starting(self) -> bool:
        """Returns True if the daemon says that the program has not begun yet."""
        ...

    def remove(self) -> None:
        """Ends the program and removes all that `make` has made, whatever has failed before. Raises
        RuntimeFailed."""
        ...


class _Plan(NamedTuple):
    """The fields of RuntimePlan."""

    options: tuple[str, ...]
    """The runtime's name and options. Every user of the machine can see them, so they hold neither
    environment nor binds. STATUS and the keys of `files` are placeholders in them, each replaced by the
    number of a descriptor."""
    command: tuple[str, ...]
    """The program and its arguments, last in the command line."""
    shown: tuple[str, ...]
    """The whole command line for people, including the arguments that are passed through a descriptor."""
    files: Mapping[str, bytes] = NOTHING
    """The unnamed files that the runtime inherits as descriptors: placeholder in the options -> content."""

    user: tuple[int, int] | None = None
    """The user id and group id with which the runtime is started; None for the caller's ids."""
    held: tuple[PinnedRoot, ...] = ()
    """Open parts of the image that the runtime inherits."""
    completed: CompletedImage | None = None
    """The image and the names that it lacks, if the runtime cannot add them itself: the watcher calls
    `complete` before it starts the runtime."""
    reachable: tuple[str, ...] = ()
    """Parts of the machine that the program can reach without a bind, in words for people."""
    enclosure: Enclosure | None = None
    """The namespaces and mounts that lazyfs makes around the runtime; None if the runtime makes all that it
    needs itself."""

    paths: Mapping[str, bytes] = NOTHING
    """Further unnamed files, which the runtime opens by paths in /proc/self/fd. Each path is put behind an
    option that ends with `=`: option -> content."""
    environment: Mapping[str, str] = NOTHING
    """The environment of the runtime itself, if the plan has no enclosure."""
    limits: KeptLimits = KeptLimits()
    """The limits that the watcher enforces on the start."""
    attendant: Attendant | None = None
    """The object that deals with the runtime's daemon; None for a runtime without a daemon."""


@checked
class RuntimePlan(_Plan):
    """A command line ready to be started."""

    __slots__ = ()

    STATUS = "{status}"
    """Stands, in the options, for the number of the descriptor that the runtime writes its status to."""

    def check(self) -> None:
        """Raises UsageError for an argument that the kernel or the runtime would take for two arguments."""
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
    """The bytes that the runtime wrote to the descriptor of RuntimePlan.STATUS; for a runtime with a daemon,
    the Attendant's report."""
    limit: str | None = None
    """`memory` or `time`, if the program was ended because it used up this limit."""


class ProgramEnd(NamedTuple):
    """The end of a start."""

    exit_code: int
    """The program's exit code; 128 + N if signal N ended it, or its start; RUNTIME_FAILED if it was not
    started for another reason."""
    started: bool
    """False if the runtime failed before the program ran; its message is on stderr."""
    failed: str | None = None
    """The part that failed, one of `result.FAILURES`, if the other fields do not show it."""
    limit: str | None = None
    """The limit that ended the program, as in RuntimeExit."""


class Runtime(Protocol):
    """One way to run a program in a root filesystem. The rest of the code knows runtimes only by this
    protocol."""

    name: str

    def probe(self) -> RuntimeProbe:
        """Tries the runtime on this machine, and leaves no process behind."""
        ...

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan of a launch. Raises UsageError for a launch that no runtime could make, for
        example with a bind that would cover a file of another kind; Unfit for one that this runtime cannot
        make."""
        ...

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        """Runs the plan to its end on this process's streams. Signals sent to this process reach the program.

        Call it from the main thread of a process that neither ignores nor handles SIGCHLD.
        """
        ...

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end, or the runtime's own failure, judged by the end of the runtime's
        process."""
        ...
