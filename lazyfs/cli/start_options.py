"""The options for starting a program, which several commands have, and the conversion of their values."""

import grp
import pwd

from lazyfs.cli.options import Option
from lazyfs.core.byte_size import parse_size
from lazyfs.core.digits import natural
from lazyfs.core.errors import UsageError
from lazyfs.runtimes import LEVELS, RunOptions, parse_bind
from lazyfs.runtimes.launch import check_user
from lazyfs.runtimes.limits import Limits, parse_seconds
from lazyfs.system.clean_start import callers_environment

START_OPTIONS = (
    Option(
        ("-B", "--bind"),
        "binds",
        "Show a host path inside; with :required, fail without it.",
        metavar="SRC[:DST[:ro]]",
        multiple=True,
    ),
    Option(("-e", "--env"), "environment", "Set a variable inside.", metavar="NAME[=VALUE]", multiple=True),
    Option(
        ("--env-fd",),
        "env_fd",
        "Open descriptor to read variables from, as env -0 writes them; --env is stronger.",
        metavar="N",
        kind=int,
        least=0,
    ),
    Option(("--pwd",), "workdir", "Working directory; the image's own by default.", metavar="DIR"),
    Option(("--entrypoint",), "entrypoint", "Put the image's entry point before COMMAND.", is_flag=True),
    Option(
        ("--network",),
        "network",
        "The machine's network (host or on, the default), or none (off).",
        choices=("host", "none", "on", "off"),
        default="host",
    ),
    Option(("--user",), "user", "As root: start the program as this user instead.", metavar="USER[:GROUP]"),
    Option(
        ("--runtime",),
        "runtime",
        "Which runtime to use: bubblewrap, podman...; of several with commas the first that works.",
        metavar="NAME",
    ),
    Option(
        ("--isolation",),
        "isolation",
        "none; best (the default): what is to be had here; wlcg: every MUST of WLCG's policy is tried first; "
        "full: every SHOULD too, and no network.",
        choices=LEVELS,
    ),
    Option(("--nv",), "nv", "Hand on the GPUs of NVIDIA, with the driver's libraries.", is_flag=True),
    Option(("--rocm",), "rocm", "Hand on the GPUs of AMD.", is_flag=True),
    Option(("--memory",), "memory", "End the program if it takes more memory, such as 2G.", metavar="SIZE"),
    Option(("--pids",), "pids", "Processes and threads at most.", metavar="N", kind=int, least=1),
    Option(("--time",), "duration", "End the program after 90s, 15m, 2h or 1:30:00.", metavar="TIME"),
    Option(
        ("--work",),
        "work",
        "Bind a working directory and begin there; DST: its path inside.",
        metavar="DIR[:DST]",
    ),
)
"""The options of a start."""


def _environment(entries: tuple[str, ...], descriptor: int | None) -> dict[str, str]:
    """Returns the variables that --env sets: `NAME=VALUE`, or `NAME` to take the caller's value, so that no
    secret has to be typed; and those that the descriptor has. Raises UsageError."""
    values = {} if descriptor is None else _handed(descriptor)
    callers = {**callers_environment(), **values}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not name or (not separator and name not in callers):
            raise UsageError(f"--env {name}: write NAME=VALUE, or the NAME of a variable that is set")
        values[name] = value if separator else callers[name]
    return values


def _handed(descriptor: int) -> dict[str, str]:
    from lazyfs.runtimes.handed_variables import read

    return read(descriptor)


def _user(text: str) -> tuple[int, int]:
    """Returns (user id, group id) for `USER[:GROUP]`, given as names or numbers; the group defaults to the
    user's own.

    Raises UsageError.
    """
    name, _, group = text.partition(":")
    try:
        number = natural(name)
        if number is None:
            number, own = pwd.getpwnam(name)[2:4]
        else:
            own = next((entry.pw_gid for entry in pwd.getpwall() if entry.pw_uid == number), number)
        if group:
            stated = natural(group)
            own = grp.getgrnam(group).gr_gid if stated is None else stated
    except (KeyError, ValueError):  # ValueError: a NUL in the name
        raise UsageError(f"--user {text}: no such user or group on this machine") from None
    check_user((number, own), f"--user {text}")
    return number, own


def run_options(
    binds: tuple[str, ...],
    environment: tuple[str, ...],
    env_fd: int | None,
    workdir: str | None,
    entrypoint: bool,
    network: str,
    user: str | None,
    runtime: str | None,
    isolation: str | None,
    nv: bool,
    rocm: bool,
    memory: str | None,
    pids: int | None,
    duration: str | None,
    work: str | None,
) -> RunOptions:
    """Returns the RunOptions for the values of the options. Raises UsageError."""
    values = _environment(environment, env_fd)
    bound = [parse_bind(bind) for bind in binds]
    if work is not None:
        own = parse_bind(f"{work}:required" if ":" in work else f"{work}::required")
        bound.append(own)
        workdir = workdir or own.target
    return RunOptions(
        tuple(bound),
        values,
        workdir,
        entrypoint,
        runtime,
        network in ("host", "on"),
        None if user is None else _user(user),
        isolation,
        Limits(
            None if memory is None else parse_size(memory, "--memory"),
            pids,
            None if duration is None else parse_seconds(duration),
        ),
        (*(("nv",) if nv else ()), *(("rocm",) if rocm else ())),
    )
