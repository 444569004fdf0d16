"""The result of a start as a document: its end, and the part that failed."""

import os
from typing import Any, Final

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.runtimes.protocol import ProgramEnd
from lazyfs.runtimes.start import NoImage, NoRuntime, PreparedRun
from lazyfs.system.bounded_look import ask_one

FAILURES: Final = ("program", "request", "image", "mount", "runtime", "lazyfs")
"""The parts that can fail. `program`: it ended with another code than 0, or is not in the image. `request`: a
bind, variable or option is impossible. `image`: it was not found, or is for another machine. `mount`: it does
not answer any more. `runtime`: none works here, or it failed before the program. `lazyfs`: everything else.
"""
_LOOK_SECONDS = 5


def of_end(prepared: PreparedRun, ended: ProgramEnd, seconds: tuple[float, float]) -> dict[str, Any]:
    """Returns the document of a start that has ended. `seconds`: of preparation, and of the program."""
    return {
        "image": prepared.launch.root,
        "runtime": prepared.runtime.name,
        "isolation": prepared.isolation,
        "reachable": list(prepared.plan.reachable),
        "started": ended.started,
        "exit_code": ended.exit_code,
        "failed": _failure(prepared, ended),
        "seconds": {"prepare": round(seconds[0], 3), "run": round(seconds[1], 3)},
    }


def of_refusal(error: LazyfsError) -> dict[str, Any]:
    """Returns the document of a start that was not made."""
    kinds = ((NoImage, "image"), (NoRuntime, "runtime"), (UsageError, "request"))
    failed = next((name for kind, name in kinds if isinstance(error, kind)), "lazyfs")
    return {"started": False, "exit_code": error.exit_code, "failed": failed, "error": str(error)}


def _failure(prepared: PreparedRun, ended: ProgramEnd) -> str | None:
    if ended.exit_code == 0:
        return None
    if not _answers(prepared.launch.root):
        return "mount"
    return ended.failed or ("program" if ended.started else "runtime")


def _answers(root: str) -> bool:
    """Returns False if the image's filesystem is gone or silent."""
    answer = ask_one(lambda: os.path.exists(root), _LOOK_SECONDS)
    return bool(answer.came and answer.value)
