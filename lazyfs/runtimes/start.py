"""Runs a program from an image, given the image's name, for `lazyfs run` and for callers in Python."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.run_config import DEFAULT_PATH
from lazyfs.core.printable import escaped
from lazyfs.runtimes.choose import Check, Choice, choose
from lazyfs.runtimes.choose import NoRuntime as NoRuntime
from lazyfs.runtimes.command_checks import obstacle
from lazyfs.runtimes.find_image import FoundImage, find, node_mounts
from lazyfs.runtimes.image_defaults import ImageDefaults, command_line, describe
from lazyfs.runtimes.image_reference import looked_up, with_remedy
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.pinned_root import PinnedRoot
from lazyfs.runtimes.protocol import ProgramEnd, Runtime, RuntimePlan, RuntimeProbe
from lazyfs.runtimes.registry import load
from lazyfs.runtimes.scratch import scratch_name
from lazyfs.runtimes.settings import RunSettings, read_settings
from lazyfs.system.bounded_look import ask_each, ask_one

_RUNSCRIPT = "/.singularity.d/runscript"
"""The program of every SIF file."""
SOURCE_SECONDS = 10.0
"""Seconds that the filesystem of a bind's source has to answer."""
_DEFAULTS = {"PATH": DEFAULT_PATH, "HOME": "/tmp"}  # noqa: S108 - the only writable directory inside


class NoImage(UsageError):
    """The image was not found."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The caller's options for a start; each may be left out."""

    binds: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that override the image's own. Their values never appear in an argv."""
    workdir: str | None = None
    entrypoint: bool = False
    """True to put the image's entry point before the command given."""
    runtime: str | None = None
    """A runtime's name; None for the first runtime that works."""
    network: bool = True
    """True for the machine's network; False for only a loopback of its own."""
    user: tuple[int, int] | None = None
    """Ids of the user and group to start as; for root only."""
    isolation: str | None = None
    """A level of `isolation.LEVELS`; None for the site's."""


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A start with every decision made, before any process is started."""

    image: ImageDefaults
    launch: Launch
    choice: Choice
    isolation: str

    @property
    def runtime(self) -> Runtime:
        return self.choice.runtime

    @property
    def plan(self) -> RuntimePlan:
        return self.choice.plan

    @property
    def probes(self) -> tuple[RuntimeProbe, ...]:
        return self.choice.probes


def _warn(message: str) -> None:
    print(escaped(f"lazyfs: {message}"), file=sys.stderr)  # noqa: T201


def prepare(
    image: str,
    arguments: Sequence[str] = (),
    options: RunOptions = RunOptions(),
    *,
    warn: Callable[[str], None] = _warn,
    thorough: bool = False,
) -> PreparedRun:
    """Finds the image, reads its defaults, tries the runtimes and makes the command line.

    A bind whose source does not exist is left out with a warning, because the sites of one grid differ.
    `thorough`: every runtime is tried, for `--explain`. Raises UsageError (no such image, no runtime, no
    command, a bind that cannot be made) and FormatError (a configuration that cannot be read).
    """
    if options.user is not None and os.geteuid() != 0:
        raise UsageError("only root can start a program as another user; leave --user out")
    name = looked_up(image)
    try:
        found = find(name, node_mounts())
    except UsageError as error:
        raise NoImage(str(with_remedy(image, error))) from None
    described = _described(found)
    command = command_line(described, tuple(arguments), entrypoint=options.entrypoint)
    if not command:
        raise UsageError(f"image {image} names no command to run; write one: lazyfs run {image} -- COMMAND")
    settings = read_settings()
    isolation = options.isolation or settings.isolation
    launch = Launch(
        found.root,
        command,
        {**_DEFAULTS, **described.environment, **options.environment},
        os.path.join("/", options.workdir or described.workdir),
        (*_present(options.binds, warn), *_present(_of_the_site(options, settings), lambda _: None)),
        options.network and isolation != "full",
        options.user,
        scratch_name(),
        PinnedRoot(found.root),
        as_root=(os.geteuid() if options.user is None else options.user[0]) == 0,
    )
    names = settings.runtimes if options.runtime is None else (options.runtime,)
    choice = choose(load(names, settings.programs), launch, isolation, _check, thorough=thorough)
    return PreparedRun(described, launch, choice, isolation)


def _described(found: FoundImage) -> ImageDefaults:
    if os.path.isfile(found.root):
        return ImageDefaults(found.root, entrypoint=(_RUNSCRIPT,), described_by=found.root)
    return describe(found.root, found.metadata)


def _check(runtime: Runtime) -> tuple[Check, ...]:
    from lazyfs.runtimes.check_isolation import check_isolation

    return check_isolation(runtime)


def _present(binds: Sequence[Bind], warn: Callable[[str], None]) -> list[Bind]:
    """Returns the binds whose source exists. Raises UsageError for a required one without source.

    A source on a filesystem that does not answer (NFS without its server) counts as missing: the start would
    wait for it without end.
    """
    found = []
    for bind, exists in zip(binds, _existing([bind.source for bind in binds]), strict=True):
        if exists:
            found.append(bind)
            continue
        silent = f"is on a filesystem that did not answer in {SOURCE_SECONDS:g} s"
        lack = silent if exists is None else "does not exist on this machine"
        if bind.required:
            raise UsageError(f"bind source {bind.source} {lack}, and is required")
        warn(f"bind source {bind.source} {lack}; it is left out")
    return found


def _existing(paths: Sequence[str]) -> list[bool | None]:
    """Returns for each path True if it exists; None if its filesystem does not answer."""
    if not paths:
        return []
    together = ask_one(lambda: [os.path.exists(path) for path in paths], SOURCE_SECONDS)
    if together.came:
        return list(together.value)
    questions = [partial(os.path.exists, path) for path in paths]
    answers = ask_each(questions, SOURCE_SECONDS, patience=SOURCE_SECONDS, enough=bool)
    return [answer.value if answer.came else None for answer in answers]


def _of_the_site(options: RunOptions, settings: RunSettings) -> list[Bind]:
    """Returns the site's binds, without those at whose target the caller has bound something."""
    taken = {bind.target for bind in options.binds}
    return [bind for bind in settings.binds if bind.target not in taken]


def run(image: str, arguments: Sequence[str] = (), options: RunOptions = RunOptions()) -> ProgramEnd:
    """Runs a command in an image and waits for its end: `prepare` and `start`."""
    return start(prepare(image, arguments, options))


def start(prepared: PreparedRun) -> ProgramEnd:
    """Runs a prepared start to its end. A start that is seen to be impossible is not made, and only gives its
    exit code."""
    found = obstacle(prepared.launch)
    if found is not None:
        _warn(found.reason)
        return ProgramEnd(found.exit_code, started=False, failed=found.failed)
    if prepared.launch.pinned is not None:
        prepared.launch.pinned.check()
    return prepared.runtime.read_end(prepared.runtime.start(prepared.plan))
