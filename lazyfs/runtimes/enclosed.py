"""The parts of a start that all runtimes in an enclosure share: binds, start, signals, end. The scratch
directory is `Launch.scratch`, which holds the runtime's own files."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import path_in_image
from lazyfs.runtimes.bind_order import in_order
from lazyfs.runtimes.bind_places import arrange, shows_devices
from lazyfs.runtimes.enclosed_init import EnclosedEnd, read_end
from lazyfs.runtimes.enclosed_programs import programs_below
from lazyfs.runtimes.enclosing import enter
from lazyfs.runtimes.enclosure import AddedPath, BoundSource, Enclosure
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.protocol import RUNTIME_FAILED, ProgramEnd, RuntimeExit, RuntimePlan, Unfit
from lazyfs.runtimes.supervise import supervise
from lazyfs.system import namespaces
from lazyfs.system.detachment import can_scope_sockets, leave_abstract_sockets, leave_session_keyring
from lazyfs.system.executables import find_executable
from lazyfs.system.syscalls import interfaces, isolation_filter

OF_THE_MACHINE = (
    Bind("/etc/resolv.conf", "/etc/resolv.conf", True),
    Bind("/etc/hosts", "/etc/hosts", True),
)
"""The machine's files that a program needs to look up host names."""


class InnerMount(NamedTuple):
    """A bind as the runtime has to make it."""

    source: str
    """A path in the scratch directory, of plain characters only."""
    target: str
    """The path in the image. It exists, and is free of links."""
    options: tuple[str, ...]
    """The options of the source's mount, `ro` or `rw` first. The runtime has to repeat them in its own mount.
    If one is missing, that mount fails in a user namespace, and loses the option if root makes it."""


class Surroundings(NamedTuple):
    """The parts of a plan that follow from a launch alone: the paths that the enclosure adds to the image,
    the sources of binds, and the mounts that the runtime has to make."""

    added: tuple[AddedPath, ...]
    sources: tuple[BoundSource, ...]
    mounts: tuple[InnerMount, ...]
    tmp: str
    """The image's /tmp, links followed."""

    def enclosure(
        self,
        launch: Launch,
        files: Mapping[str, bytes],
        *,
        environment: Mapping[str, str] | None = None,
        evidence: str | None = None,
        detached: bool = False,
        evidence_open: bool = False,
        own_names: Iterable[str] = (),
        shows_root: bool = False,
        covered: tuple[str, ...] = (),
        frozen: str | None = None,
        own_devices: bool = False,
        notified: bool = False,
        own_group: bool = False,
        in_shell: bool = False,
    ) -> Enclosure:
        """Returns the enclosure of a launch. The keyword arguments are fields of Enclosure."""
        return Enclosure(
            launch.scratch,
            launch.root,
            self.added,
            self.sources,
            files,
            environment or {},
            evidence,
            detached,
            evidence_open,
            frozenset(own_names),
            launch.network,
            covered,
            frozen,
            own_devices,
            notified,
            own_group,
            in_shell,
            shows_root,
        )


def surround(launch: Launch, needed: Iterable[AddedPath] = ()) -> Surroundings:
    """Returns the surroundings of a launch. `needed`: further paths that the runtime uses; those that the
    image lacks are added. Raises UsageError for a bind that cannot be made."""
    if launch.is_file:
        raise Unfit("only apptainer starts SIF files")
    tree = arrange(launch.root, launch.binds, OF_THE_MACHINE)
    directories = [tree.proc, tree.dev, tree.tmp]
    added = [AddedPath(place.path, True) for place in directories if place.made_in is not None]
    added += [found for path in needed if (found := _missing(launch.root, path)) is not None]
    bound = [_bound(launch, number, bind, place.path) for number, (bind, place) in enumerate(tree.binds)]
    added += [AddedPath(at.path, os.path.isdir(bind.source)) for bind, at in tree.binds if at.made_in]
    return _surroundings(added, bound, tree.tmp.path)


def surround_file(launch: Launch) -> Surroundings:
    """Returns the surroundings of a launch whose image is a SIF file. The runtime itself makes the mount
    points in it. Raises UsageError for two sources at one target."""
    binds = [bind for bind, _ in in_order(launch.root, launch.binds, ())]
    taken = [f"{bind.target}/" for bind in binds]
    binds += [
        bind
        for bind in OF_THE_MACHINE
        if os.path.exists(bind.source) and not f"{bind.target}/".startswith(tuple(taken))
    ]
    bound = [_bound(launch, number, bind, bind.target) for number, bind in enumerate(binds)]
    return _surroundings([], bound, "/tmp")  # noqa: S108 - the program's own


def _bound(launch: Launch, number: int, bind: Bind, target: str) -> tuple[BoundSource, InnerMount]:
    source = BoundSource(
        os.path.realpath(bind.source), f"binds/{number}", bind.read_only, shows_devices(bind)
    )
    return source, InnerMount(os.path.join(launch.scratch, source.name), target, _options(source))


def _surroundings(
    added: Sequence[AddedPath], bound: Sequence[tuple[BoundSource, InnerMount]], tmp: str
) -> Surroundings:
    sources, mounts = [source for source, _ in bound], [inner for _, inner in bound]
    return Surroundings(tuple(added), tuple(sources), tuple(mounts), tmp)


def _missing(root: str, wanted: AddedPath) -> AddedPath | None:
    """Returns `wanted`, its path resolved in the image; None if the path exists, even as a dangling link."""
    place = path_in_image.locate(root, os.path.dirname(wanted.path))
    if not place.rest and os.path.lexists(os.path.join(root + place.found, os.path.basename(wanted.path))):
        return None
    return wanted._replace(path=os.path.join(place.found, *place.rest, os.path.basename(wanted.path)))


def _options(source: BoundSource) -> tuple[str, ...]:
    flags = os.statvfs(source.source).f_flag
    found = ["ro" if source.read_only or flags & os.ST_RDONLY else "rw", "nosuid"]
    found += [] if source.device else ["nodev"]
    return (*found, *(["noexec"] if flags & os.ST_NOEXEC else []))


def check_lines(launch: Launch, runtime: str) -> None:
    """Raises Unfit for a variable with a line break, because `runtime` reads variables as lines."""
    for name, value in launch.environment.items():
        if "\n" in f"{name}{value}" or "\r" in f"{name}{value}":
            raise Unfit(f"variable {name!a}: {runtime} takes no value of several lines")


def lines_of_environment(launch: Launch, runtime: str, written: Callable[[str], str] = str) -> bytes:
    """Returns the environment as `NAME=VALUE` lines. `written`: returns a value in the runtime's notation.
    Raises Unfit for a value of several lines."""
    check_lines(launch, runtime)
    return b"".join(os.fsencode(f"{name}={written(value)}\n") for name, value in launch.environment.items())


def plain(path: str, runtime: str, of: str) -> str:
    """Returns the path. Raises Unfit if it holds a character with which the runtime separates paths. `of`:
    the word for the path in the message, such as `bind target`."""
    if any(character in path for character in ':,"\\\n'):
        raise Unfit(f"{of} {path!a}: {runtime} takes no path with a colon, comma, quote or backslash")
    return path


def source_and_target(inner: InnerMount, runtime: str) -> str:
    """Returns `SOURCE:TARGET`, as a runtime's option for binds takes it. Raises Unfit for a target with a
    character that the runtime would take for a separator."""
    return f"{inner.source}:{plain(inner.target, runtime, 'bind target')}"


def start(plan: RuntimePlan, executable: str) -> RuntimeExit:
    """Runs the plan to its end, in its enclosure. `executable`: the path of the runtime's executable."""
    enclosure = plan.enclosure
    assert enclosure is not None

    def detach(status: int) -> None:
        enter(enclosure, status, plan.user)
        leave_session_keyring()
        namespaces.give_up_new_privileges()
        if can_scope_sockets():
            leave_abstract_sockets()
        namespaces.filter_calls(isolation_filter(interfaces()))

    return supervise(plan, executable, detach, partial(programs_below, enclosure))


def plan_of(
    launch: Launch,
    options: tuple[str, ...],
    enclosure: Enclosure,
    *,
    in_options: bool = False,
    passes_bytes: bool = False,
) -> RuntimePlan:
    """Returns the plan of a start. `in_options`: True if the runtime reads the command from a file, not from
    the end of its arguments. `passes_bytes`: True if the runtime passes on texts that are not UTF-8. If
    False, raises Unfit for such a text, because the runtime would alter it or leave it out."""
    if not passes_bytes:
        check_utf8(launch, options[0])
    return RuntimePlan(
        options,
        () if in_options else launch.command,
        (*options, "#", *launch.command) if in_options else (*options, *launch.command),
        user=launch.user,
        reachable=_reachable(launch),
        enclosure=enclosure,
    )


def check_utf8(launch: Launch, runtime: str) -> None:
    """Raises Unfit if a text of the launch is not UTF-8, because `runtime` would change such a text. The
    message has no value of a variable, which may be a secret."""
    texts = (*launch.command, *launch.environment, launch.workdir, launch.root)
    named = {f"{text!a}": text for text in (*texts, *(bind.target for bind in launch.binds))}
    named |= {f"the value of variable {name!a}": value for name, value in launch.environment.items()}
    for name, text in named.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unfit(f"{name} is not UTF-8, and {runtime} takes no other text") from None


def _reachable(launch: Launch) -> tuple[str, ...]:
    """Returns, in words for people, the parts of the machine that a program in an enclosure can reach without
    a bind."""
    found = ["the network"] if launch.network else []
    if launch.network and not can_scope_sockets():
        found.append(
            "abstract sockets (Linux 6.12 with Landlock would keep them out; so does --network none)"
        )
    if not interfaces():
        found.append("keys of the same user whose numbers it guesses (no seccomp filter for this machine)")
    return tuple(found)


def program_end(ended: RuntimeExit, name: str, was_started: Callable[[EnclosedEnd], bool]) -> ProgramEnd:
    """Returns the end of a start. If the enclosure could not be made, prints the reason on stderr. `name`:
    the runtime's name.

    `was_started`: returns True for a report that proves that the program ran.
    """
    if ended.code < 0 and not ended.status:  # a signal that came before there was a program
        return ProgramEnd(128 - ended.code, started=False, failed="program")
    report = read_end(ended.status)
    if report.error is not None:
        os.write(2, f"lazyfs: {name} was not started: {report.error}\n".encode(errors="replace"))
    if report.error is not None or not was_started(report):
        return ProgramEnd(RUNTIME_FAILED, started=False)
    return ProgramEnd(report.code if report.code >= 0 else 128 - report.code, started=True)


def is_evident(report: EnclosedEnd) -> bool:
    """Returns True if the runtime has left evidence of the program's start."""
    return report.evident


def executable_of(names: Iterable[str], given: str | None = None) -> str | None:
    """Returns `given` if it is an executable file. Without `given`, returns the path of the first of the
    names that is on PATH or in /usr/sbin or /sbin. None if there is none."""
    if given is not None:
        return given if os.access(given, os.X_OK) else None
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return next((found for name in names if (found := find_executable(name, path))), None)


def start_with(plan: RuntimePlan, names: Sequence[str], given: str | None) -> RuntimeExit:
    """Runs the plan with the runtime's executable, which `executable_of` finds by `names` and `given`. Raises
    UsageError if it is not there any more."""
    executable = executable_of(names, given)
    if executable is None:
        raise UsageError(f"{given or names[0]} cannot be executed any more")
    return start(plan, executable)
