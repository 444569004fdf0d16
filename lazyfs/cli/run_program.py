"""Runs a program from an image and reports how it ended; or explains how the program would be run."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lazyfs.cli.options import Option
from lazyfs.cli.pull_options import PULL_OPTIONS, pull_function
from lazyfs.cli.start_options import START_OPTIONS, run_options
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.runtimes import FoundImage, PreparedRun, RunOptions, of_end, of_refusal, prepare, start

if TYPE_CHECKING:
    from lazyfs.runtimes.result_file import ResultFile

OPTIONS = (
    *START_OPTIONS,
    *PULL_OPTIONS,
    Option(
        ("--check-isolation",),
        "check_isolation",
        "Try the isolation of --runtime, or of all; run nothing else.",
        is_flag=True,
    ),
    Option(("--explain",), "explain", "Show the command that would be run, and run nothing.", is_flag=True),
    Option(("--json",), "as_json", "Print the end (with --explain: the plan) as JSON.", is_flag=True),
    Option(
        ("--result",), "result", "Write the end, and whose failure it was, to FILE as JSON.", metavar="FILE"
    ),
)
"""The options of `lazyfs run`."""


def run_program(
    image: str | None,
    arguments: tuple[str, ...],
    *,
    check_isolation: bool,
    explain: bool,
    as_json: bool,
    result: str | None,
    **wishes: Any,
) -> int:
    """Carries out `lazyfs run` with the values of OPTIONS. Returns the exit code. Raises LazyfsError, and
    writes it to the file `result` too."""
    file = None if result is None else _result_file(result)
    try:
        return _run(image, arguments, check_isolation, explain, as_json, file, wishes)
    except LazyfsError as error:
        if file is not None:
            _write(file, of_refusal(error))
        raise


def _run(
    image: str | None,
    arguments: tuple[str, ...],
    check_isolation: bool,
    explain: bool,
    as_json: bool,
    file: "ResultFile | None",
    wishes: dict[str, Any],
) -> int:
    pull = pull_function(wishes)
    options = run_options(**wishes)
    if check_isolation:
        from lazyfs.cli.isolation_text import say_isolation

        return say_isolation(options.runtime, options.isolation or "wlcg", as_json=as_json)
    if image is None:
        raise UsageError("which image? lazyfs run IMAGE -- COMMAND")
    if explain:
        prepared = prepare(image, arguments, options, thorough=True)
        _explain(prepared, hidden=set(options.environment), as_json=as_json)
        return 0
    return _start(image, arguments, options, pull, as_json, file)


def _start(
    image: str,
    arguments: tuple[str, ...],
    options: RunOptions,
    pull: Callable[[str], FoundImage] | None,
    as_json: bool,
    file: "ResultFile | None",
) -> int:
    """Starts the program, and writes how it ended: to `file`, and to stderr if `as_json`. `pull`: pulls an
    image that no mount has; None if none may be pulled. Returns the exit code: the program's, but 1 instead
    of 0 if the result could not be written."""
    begun = time.monotonic()
    prepared = prepare(image, arguments, options, pull=pull)
    started = time.monotonic()
    ended = start(prepared)
    document = of_end(prepared, ended, (started - begun, time.monotonic() - started))
    written = file is None or _write(file, document)
    if as_json:
        from lazyfs.cli.say import say_json

        say_json(document, err=True)
    return ended.exit_code if written else ended.exit_code or 1


def _result_file(path: str) -> "ResultFile":
    from lazyfs.runtimes.result_file import ResultFile

    return ResultFile(path, f"--result {path}")


def _write(file: "ResultFile", document: dict[str, Any]) -> bool:
    """Writes the result; returns False, and says why, if that fails: it must not hide how the start ended."""
    try:
        file.write(json.dumps(document))
    except UsageError as error:
        from lazyfs.cli.say import say

        say(f"lazyfs: {error}", err=True)
        return False
    return True


def _explain(prepared: PreparedRun, *, hidden: set[str], as_json: bool) -> None:
    """Prints the plan of a start. `hidden`: names of variables whose values are masked, because they may be
    secrets."""
    import shlex

    from lazyfs.cli.say import say, say_json

    environment = {
        name: "***" if name in hidden else value for name, value in prepared.launch.environment.items()
    }
    plan = prepared.runtime.plan(prepared.launch._replace(environment=environment))
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
            "limits": dict(prepared.plan.limits.by),
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
    for limit, means in prepared.plan.limits.by:
        say(f"limit:     {limit}: by {means}")
    say(f"reachable: {'; '.join(plan.reachable) or 'nothing but what is bound'}")
    say(f"command:   {shlex.join(plan.shown)}")
