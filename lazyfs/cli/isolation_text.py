"""`lazyfs run --check-isolation`: what a probe inside each runtime has seen."""

from lazyfs.cli.say import say, say_json
from lazyfs.core.errors import LazyfsError
from lazyfs.runtimes.check_isolation import check_isolation
from lazyfs.runtimes.isolation import Check, failures
from lazyfs.runtimes.protocol import Runtime
from lazyfs.runtimes.registry import load
from lazyfs.runtimes.settings import read_settings


def say_isolation(wanted: str | None, level: str, *, as_json: bool) -> int:
    """Prints the checks of the `wanted` runtimes (names separated by commas; None for those in the computing
    site's settings). Returns 0 if one of them passes the level of isolation `level`, otherwise 1."""
    settings = read_settings()
    names = settings.runtimes if wanted is None else wanted.split(",")
    passing = 0
    described = []
    for runtime in load(names, settings.programs):
        checks, reason = _checks(runtime)
        lacking = [reason] if reason else failures(checks, level)
        passing += not lacking
        described.append(
            {
                "runtime": runtime.name,
                "passes": not lacking,
                "lacking": lacking,
                "checks": [check._asdict() for check in checks],
            }
        )
        if not as_json:
            say(f"{runtime.name}: {f'passes {level}' if not lacking else f'does not pass {level}'}")
            if reason:
                say(f"  not tried: {reason}")
            for check in checks:
                kind = "MUST" if check.must else "SHOULD"
                say(f"  {'pass' if check.passed else 'FAIL'}  {kind:6}  {check.name}{_seen(check)}")
    if as_json:
        say_json({"level": level, "runtimes": described})
    return 0 if passing else 1


def _checks(runtime: Runtime) -> tuple[tuple[Check, ...], str]:
    """Returns (the checks of a runtime, an empty text); or (no checks, the reason why they could not be
    made)."""
    probe = runtime.probe()
    if not probe.usable:
        return (), probe.says
    try:
        return check_isolation(runtime), ""
    except LazyfsError as error:
        return (), str(error)


def _seen(check: Check) -> str:
    return "" if check.passed else f": {check.seen}"
