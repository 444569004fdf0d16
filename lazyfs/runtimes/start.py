"""Runs a program from an image, given the image's name: for `lazyfs run` and for callers in Python."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import NamedTuple

from lazyfs.core.errors import AccountProblem, LazyfsError, UsageError
from lazyfs.core.oci.run_config import DEFAULT_PATH
from lazyfs.core.printable import escaped
from lazyfs.core.shown_address import shown_source
from lazyfs.runtimes.bind_order import led_to
from lazyfs.runtimes.choose import Check, Choice, choose
from lazyfs.runtimes.choose import NoRuntime as NoRuntime
from lazyfs.runtimes.command_checks import obstacle
from lazyfs.runtimes.find_image import FoundImage, NotMounted, find, node_mounts
from lazyfs.runtimes.image_defaults import ImageDefaults, command_line, describe
from lazyfs.runtimes.image_reference import can_be_pulled, looked_up, with_remedy
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.limits import Limits, keep
from lazyfs.runtimes.pinned_root import PinnedRoot
from lazyfs.runtimes.protocol import ProgramEnd, Runtime, RuntimePlan, RuntimeProbe
from lazyfs.runtimes.records import NOTHING
from lazyfs.runtimes.registry import load
from lazyfs.runtimes.scratch import scratch_name
from lazyfs.runtimes.settings import RunSettings, read_settings
from lazyfs.system.bounded_look import ask_each, ask_one

_RUNSCRIPT = "/.singularity.d/runscript"
"""The path of the program that every SIF file has."""
_LOOK_SECONDS = 5.0
"""Timeout in seconds for an answer of the image's filesystem, which is asked after a program has failed."""
SOURCE_SECONDS = 10.0
"""Timeout in seconds for an answer of the filesystem of a bind's source."""
_DEFAULTS = {"PATH": DEFAULT_PATH, "HOME": "/tmp"}  # noqa: S108 - the only writable directory inside


class NoImage(UsageError):
    """The image was not found."""


class RunOptions(NamedTuple):
    """The caller's options for a start; each may be left out."""

    binds: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = NOTHING
    """Variables that override the image's own. Their values never appear in an argv."""
    workdir: str | None = None
    entrypoint: bool = False
    """True to put the image's entry point before the given command."""
    runtime: str | None = None
    """The name of a runtime, or several separated by commas: the first that works is taken. None for the
    runtimes in the computing site's settings, in their order there."""
    network: bool = True
    """True for the machine's network; False for a network namespace with only a loopback interface."""
    user: tuple[int, int] | None = None
    """The user id and group id with which the program is started; for root only."""
    isolation: str | None = None
    """One of `isolation.LEVELS`; None for the level in the computing site's settings."""
    limits: Limits = Limits()
    gpus: tuple[str, ...] = ()
    """Kinds of GPU that the program gets: `nv`, `rocm`."""


_PLAIN = RunOptions()


class PreparedRun(NamedTuple):
    """A start with every decision made. No process of it has been started yet."""

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
    options: RunOptions = _PLAIN,
    *,
    warn: Callable[[str], None] = _warn,
    thorough: bool = False,
    pull: Callable[[str], FoundImage] | None = None,
) -> PreparedRun:
    """Finds the image, reads its defaults, tries the runtimes and makes the command line.

    A bind whose source does not exist is left out with a warning, because the sites of one grid differ.
    `thorough`: True to try every runtime, for `--explain`. `pull`: pulls an image that is in no mount onto
    this machine; None if nothing may be pulled. Raises UsageError (no such image, no runtime, no command, a
    bind that cannot be made) and FormatError (a configuration that cannot be read).
    """
    if options.user is not None and os.geteuid() != 0:
        raise UsageError("only root can start a program as another user; leave --user out")
    found = _found(image, pull)
    described = _described(found)
    command = command_line(described, tuple(arguments), entrypoint=options.entrypoint)
    if not command:
        name = shown_source(image)
        raise UsageError(f"image {name} names no command to run; write one: lazyfs run {name} -- COMMAND")
    if not thorough:
        _announce(found.root, command[0])
    settings = read_settings()
    isolation = options.isolation or settings.isolation
    gpus = options.gpus or _gpus_of_the_site(settings)
    launch = Launch(
        found.root,
        command,
        {**_DEFAULTS, **described.environment, **_chosen_gpus(gpus), **options.environment},
        os.path.join("/", options.workdir or described.workdir),
        (
            *_present(options.binds, warn),
            *_present(_of_the_site(options, settings, found.root), lambda _: None),
        ),
        options.network and isolation != "full",
        options.user,
        scratch_name(),
        PinnedRoot(found.root),
        options.limits,
        gpus,
        as_root=(os.geteuid() if options.user is None else options.user[0]) == 0,
    )
    names = settings.runtimes if options.runtime is None else options.runtime.split(",")
    choice = choose(load(names, settings.programs), launch, isolation, _check, thorough=thorough)
    if launch.limits:
        kept = keep(
            launch.limits,
            os.path.basename(launch.scratch),
            user=launch.identity[0],
            by_daemon=choice.plan.attendant is not None,
        )
        choice = choice._replace(plan=choice.plan._replace(limits=kept))
    return PreparedRun(described, launch, choice, isolation)


def _found(image: str, pull: Callable[[str], FoundImage] | None) -> FoundImage:
    """Finds the image in a mount, or pulls it. Raises NoImage; AccountProblem if the account for pulling it
    cannot be used."""
    try:
        name = looked_up(image)
        if name is not None:
            with suppress(NotMounted) if pull is not None and can_be_pulled(image) else nullcontext():
                return find(name, node_mounts())
        if pull is None:
            raise NotMounted(f"image {shown_source(image)} can be in no mount")
        return pull(image)
    except AccountProblem:
        raise
    except UsageError as error:
        raise NoImage(str(with_remedy(image, error) if pull is None else error)) from None
    except LazyfsError as error:
        raise NoImage(str(error)) from None


def _announce(root: str, program: str) -> None:
    """Tells the mount which program is about to be started, so that it fetches what this program reads."""
    name = os.path.basename(program)
    with suppress(OSError, ValueError):  # ENODATA as a rule; ValueError: a NUL in the name
        os.getxattr(root, f"user.lazyfs.start.{name}")


def _gpus_of_the_site(settings: RunSettings) -> tuple[str, ...]:
    if not settings.gpus:
        return ()
    from lazyfs.runtimes.gpus import kinds_here

    return tuple(kind for kind in settings.gpus if kind in kinds_here())


def _chosen_gpus(kinds: tuple[str, ...]) -> dict[str, str]:
    if not kinds:
        return {}
    from lazyfs.runtimes.gpus import chosen_gpus
    from lazyfs.system.clean_start import callers_environment

    return chosen_gpus(kinds, callers_environment())


def _described(found: FoundImage) -> ImageDefaults:
    if os.path.isfile(found.root):
        return ImageDefaults(found.root, entrypoint=(_RUNSCRIPT,), described_by=found.root)
    return describe(found.root, found.metadata)


def _check(runtime: Runtime) -> tuple[Check, ...]:
    from lazyfs.runtimes.check_isolation import check_isolation

    return check_isolation(runtime)


def _present(binds: Sequence[Bind], warn: Callable[[str], None]) -> list[Bind]:
    """Returns the binds whose source exists, and calls `warn` for each bind whose source is missing. Raises
    UsageError if the source of a required bind is missing.

    A source on a filesystem that does not answer (NFS without its server) counts as missing: the start would
    wait for it without end.
    """
    found = []
    for bind, lack in zip(binds, _lacking([bind.source for bind in binds]), strict=True):
        if not lack:
            found.append(bind)
            continue
        if bind.required:
            raise UsageError(f"bind source {bind.source} {lack}, and is required")
        warn(f"bind source {bind.source} {lack}; it is left out")
    return found


def _lacking(paths: Sequence[str]) -> list[str]:
    """Returns, for each path, the reason why it cannot be bound; an empty text for a path that is there."""
    if not paths:
        return []
    together = ask_one(lambda: [_lack(path) for path in paths], SOURCE_SECONDS)
    if together.came:
        return list(together.value)
    questions = [partial(_lack, path) for path in paths]
    answers = ask_each(questions, SOURCE_SECONDS, patience=SOURCE_SECONDS, enough=lambda lack: not lack)
    silent = f"is on a filesystem that did not answer in {SOURCE_SECONDS:g} s"
    return [answer.value if answer.came else silent for answer in answers]


def _lack(path: str) -> str:
    try:
        os.stat(path)
    except PermissionError:
        return f"cannot be reached by user {os.geteuid()}: another user's filesystem, or a closed directory"
    except (OSError, ValueError):
        return "does not exist on this machine"
    return ""


def _of_the_site(options: RunOptions, settings: RunSettings, root: str) -> list[Bind]:
    """Returns the binds in the computing site's settings, except those whose target leads to where the caller
    has bound something."""
    taken = set(led_to(root, [bind.target for bind in options.binds]))
    places = led_to(root, [bind.target for bind in settings.binds])
    return [bind for bind, place in zip(settings.binds, places, strict=True) if place not in taken]


def run(image: str, arguments: Sequence[str] = (), options: RunOptions = _PLAIN) -> ProgramEnd:
    """Runs a command in an image and waits for its end: `prepare` and `start`."""
    return start(prepare(image, arguments, options))


def start(prepared: PreparedRun) -> ProgramEnd:
    """Runs a prepared start to its end. If an obstacle is found first, starts nothing and returns the
    obstacle's exit code."""
    found = obstacle(prepared.launch)
    if found is not None:
        _warn(found.reason)
        return ProgramEnd(found.exit_code, started=False, failed=found.failed)
    if prepared.launch.pinned is not None:
        prepared.launch.pinned.check()
    exited = prepared.runtime.start(prepared.plan)
    ended = prepared.runtime.read_end(exited)
    limit = ended.limit or exited.limit
    if limit is not None:
        _warn(f"the program was ended: its {limit} was used up")
        return ended._replace(limit=limit, failed="program")
    if ended.exit_code and not _answers(prepared.launch.root):
        _warn(f"image {prepared.launch.root}: its filesystem does not answer any more; is it mounted?")
        return ended._replace(failed="mount")
    return ended


def _answers(root: str) -> bool:
    """Returns False if the image's filesystem is gone or does not answer. Asks for the filesystem's size,
    because the kernel could answer other questions from its caches."""
    answer = ask_one(lambda: _has_size(root), _LOOK_SECONDS)
    return bool(answer.came and answer.value)


def _has_size(path: str) -> bool:
    try:
        os.statvfs(path)
    except OSError:
        return False
    return True
