"""`lazyfs run`: starts a program from an image."""

import grp
import json
import pwd
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from lazyfs.cli.say import say, say_json
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.runtimes import LEVELS, PreparedRun, RunOptions, of_end, of_refusal, parse_bind, prepare, start
from lazyfs.system.clean_start import callers_environment


def _environment(entries: tuple[str, ...]) -> dict[str, str]:
    """Returns the variables of --env: `NAME=VALUE`, or `NAME` for the caller's value, so that no secret has
    to be typed. Raises UsageError."""
    values = {}
    callers = callers_environment()
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not name or (not separator and name not in callers):
            raise UsageError(f"--env {name}: write NAME=VALUE, or the NAME of a variable that is set")
        values[name] = value if separator else callers[name]
    return values


def _user(text: str) -> tuple[int, int]:
    """Returns the ids of `USER[:GROUP]`, names or numbers; the group defaults to the user's own.

    Raises UsageError.
    """
    name, _, group = text.partition(":")
    try:
        if name.isdecimal():
            number = int(name)
            own = next((entry.pw_gid for entry in pwd.getpwall() if entry.pw_uid == number), number)
        else:
            number, own = pwd.getpwnam(name)[2:4]
        if group:
            own = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"--user {text}: no such user or group on this machine") from None
    if max(number, own) >= 1 << 32:
        raise UsageError(f"--user {text}: numbers of users and groups are below 4294967296")
    return number, own


_START_OPTIONS = (
    click.option(
        "-B",
        "--bind",
        "binds",
        multiple=True,
        metavar="SRC[:DST[:ro]]",
        help="Show a host path inside; with :required, fail without it.",
    ),
    click.option(
        "-e", "--env", "environment", multiple=True, metavar="NAME[=VALUE]", help="Set a variable inside."
    ),
    click.option("--pwd", "workdir", metavar="DIR", help="Working directory; the image's own by default."),
    click.option("--entrypoint", is_flag=True, help="Put the image's entry point before COMMAND."),
    click.option(
        "--network",
        type=click.Choice(["host", "none"]),
        default="host",
        help="The machine's network (the default), or none.",
    ),
    click.option("--user", metavar="USER[:GROUP]", help="As root: start the program as this user instead."),
    click.option("--runtime", metavar="NAME", help="Which runtime to use: bubblewrap, apptainer, podman..."),
    click.option(
        "--isolation",
        type=click.Choice(LEVELS),
        help="none; best (the default): what is to be had here; wlcg: every MUST of WLCG's policy is tried "
        "first; full: every SHOULD too, and no network.",
    ),
    click.option(
        "--work", metavar="DIR[:DST]", help="Bind a working directory and begin there; DST: its path inside."
    ),
)


def _start_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a start; the command takes them as `**wishes` and passes them to `_run_options`."""
    for option in reversed(_START_OPTIONS):
        command = option(command)
    return command


def _run_options(
    binds: tuple[str, ...],
    environment: tuple[str, ...],
    workdir: str | None,
    entrypoint: bool,
    network: str,
    user: str | None,
    runtime: str | None,
    isolation: str | None,
    work: str | None,
) -> RunOptions:
    """Returns the values of the options of a start. Raises UsageError."""
    values = _environment(environment)
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
        network == "host",
        None if user is None else _user(user),
        isolation,
    )


@click.command()
@click.argument("image", required=False)
@click.argument("arguments", nargs=-1, metavar="[-- COMMAND...]")
@_start_options
@click.option(
    "--check-isolation", is_flag=True, help="Try the isolation of --runtime, or of all; run nothing else."
)
@click.option("--explain", is_flag=True, help="Show the command that would be run, and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the end (with --explain: the plan) as JSON.")
@click.option("--result", metavar="FILE", help="Write the end, and whose failure it was, to FILE as JSON.")
def command(
    image: str | None,
    arguments: tuple[str, ...],
    check_isolation: bool,
    explain: bool,
    as_json: bool,
    result: str | None,
    **wishes: Any,
) -> int:
    """Run COMMAND (or the image's own) in IMAGE, isolated from this machine.

    IMAGE is a directory (with a slash or dot in front), or a name in a repository mounted on this node.

    \b
    The program sees the image read-only, an empty /tmp, /proc, /dev, and the binds of -B. A bind whose
    source does not exist is left out with a warning; a target that the image does not have is made.
    Exit code: the program's; 128+N if signal N ended it; 127 not found in the image; 125 the runtime failed.

    \b
    Example:
      lazyfs run library/python:3.11 --work "$PWD":/srv -- python3 analysis.py
    """
    options = _run_options(**wishes)
    if check_isolation:
        from lazyfs.cli.isolation_text import say_isolation

        return say_isolation(options.runtime, options.isolation or "wlcg", as_json=as_json)
    if image is None:
        raise UsageError("which image? lazyfs run IMAGE -- COMMAND")
    if explain:
        prepared = prepare(image, arguments, options, thorough=True)
        _explain(prepared, hidden=set(options.environment), as_json=as_json)
        return 0
    return _start(image, arguments, options, as_json, result)


def _start(
    image: str, arguments: tuple[str, ...], options: RunOptions, as_json: bool, result: str | None
) -> int:
    """Starts the program, and says or writes how it ended. Returns the exit code."""
    begun = time.monotonic()
    try:
        prepared = prepare(image, arguments, options)
        started = time.monotonic()
        ended = start(prepared)
    except LazyfsError as error:
        if result is not None:
            _write(result, of_refusal(error))
        raise
    if as_json or result is not None:
        document = of_end(prepared, ended, (started - begun, time.monotonic() - started))
        if as_json:
            say_json(document, err=True)
        if result is not None:
            _write(result, document)
    return ended.exit_code


def _write(path: str, document: dict[str, Any]) -> None:
    """Writes the result to the file of --result. Raises UsageError."""
    try:
        with open(path, "w") as file:
            json.dump(document, file)
    except OSError as error:
        raise UsageError(f"--result {path}: {error.strerror}") from None


def _explain(prepared: PreparedRun, *, hidden: set[str], as_json: bool) -> None:
    """Prints the plan of a start. The values of the `hidden` variables, which may be secrets, are masked."""
    environment = {
        name: "***" if name in hidden else value for name, value in prepared.launch.environment.items()
    }
    plan = prepared.runtime.plan(replace(prepared.launch, environment=environment))
    completed = [] if plan.completed is None else [each.path for each in plan.completed.directories]
    if as_json:
        described = {
            "image": prepared.launch.root,
            "described_by": prepared.image.described_by,
            "probes": [{"runtime": p.runtime, "usable": p.usable, "says": p.says} for p in prepared.probes],
            "rejected": [found._asdict() for found in prepared.choice.rejected],
            "runtime": prepared.runtime.name,
            "isolation": prepared.isolation,
            "argv": plan.shown,
            "completed": completed,
            "reachable": plan.reachable,
        }
        say_json(described)
        return
    say(f"image:     {prepared.launch.root}")
    say(
        f"defaults:  {prepared.image.described_by or 'none: the image has no config.json, no .singularity.d'}"
    )
    for probe in prepared.probes:
        say(f"probe:     {probe.runtime}: {'works' if probe.usable else 'cannot be used'}: {probe.says}")
    for rejected in prepared.choice.rejected:
        say(f"rejected:  {rejected.runtime}: {rejected.reason}")
    say(f"runtime:   {prepared.runtime.name}")
    say(f"isolation: {prepared.isolation}")
    if completed:
        say(f"completed: {', '.join(completed)} (by an overlay filesystem)")
    say(f"reachable: {'; '.join(plan.reachable) or 'nothing but what is bound'}")
    say(f"command:   {shlex.join(plan.shown)}")
