"""The result of a start as a document: its end, and the part that failed."""

from typing import Any, Final

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.runtimes.protocol import ProgramEnd, RuntimeFailed
from lazyfs.runtimes.start import NoImage, NoRuntime, PreparedRun

FAILURES: Final = ("program", "request", "image", "mount", "runtime", "lazyfs")
"""The parts that can fail. `program`: it ended with another code than 0, or is not in the image. `request`: a
bind, variable or option is impossible. `image`: it was not found, or is for another machine. `mount`: the
mount does not answer any more. `runtime`: no runtime works here, or it failed before the program was started.
`lazyfs`: everything else."""


def of_end(prepared: PreparedRun, ended: ProgramEnd, seconds: tuple[float, float]) -> dict[str, Any]:
    """Returns the document of a start that has ended. `seconds`: (duration of the preparation, duration of
    the program)."""
    return {
        "image": prepared.launch.root,
        "runtime": prepared.runtime.name,
        "isolation": prepared.isolation,
        "reachable": list(prepared.plan.reachable),
        "started": ended.started,
        "exit_code": ended.exit_code,
        "failed": _failure(ended),
        "limits": dict(prepared.plan.limits.by),
        "limit": ended.limit,
        "seconds": {"prepare": round(seconds[0], 3), "run": round(seconds[1], 3)},
    }


def of_refusal(error: LazyfsError) -> dict[str, Any]:
    """Returns the document of a start that was not made."""
    kinds = ((NoImage, "image"), (NoRuntime, "runtime"), (RuntimeFailed, "runtime"), (UsageError, "request"))
    failed = next((name for kind, name in kinds if isinstance(error, kind)), "lazyfs")
    return {"started": False, "exit_code": error.exit_code, "failed": failed, "error": str(error)}


def _failure(ended: ProgramEnd) -> str | None:
    if ended.exit_code == 0:
        return None
    return ended.failed or ("program" if ended.started else "runtime")
