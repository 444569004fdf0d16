"""The notation of ATLAS's queues: `container_type` and `container_options`, written as for singularity."""

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lazyfs.core.errors import UsageError

_WITH_VALUE = {"-B": "--bind", "--bind": "--bind", "--pwd": "--pwd", "--env": "--env"}
_ALWAYS_SO = frozenset(
    {"-c", "--contain", "-C", "--containall", "-e", "--cleanenv", "-i", "--ipc", "-p", "--pid", "-u"}
    | {"--userns", "--no-home", "--nohome", "--no-privs", "-q", "--quiet", "-s", "--silent"}
)
"""Options of singularity that are dropped, because every start of lazyfs has their effect."""
_REFUSED = {
    "--writable": "an image is read-only: bind a directory (-B) to write to",
    "-w": "an image is read-only: bind a directory (-B) to write to",
    "--fakeroot": "a program of a user's is never root",
}
FLAGS = frozenset({"--nv", "--rocm"})
"""Options of singularity that take no value, and that `lazyfs run` has under the same names."""
_USERS = frozenset({"pilot", "wrapper"})


class ContainerType(NamedTuple):
    """One part of `container_type`: a runtime, and who starts the runtime (`pilot` or `wrapper`)."""

    runtime: str
    user: str


def parse_container_type(text: str) -> list[ContainerType]:
    """Parses `singularity:pilot;docker:wrapper`. Raises UsageError."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        runtime, separator, user = part.partition(":")
        if not runtime or not separator or user not in _USERS:
            raise UsageError(f"container_type {text!r}: {part!r} is not RUNTIME:pilot or RUNTIME:wrapper")
        found.append(ContainerType(runtime, user))
    if not found:
        raise UsageError(f"container_type {text!r} names no runtime; write singularity:pilot")
    return found


def parse_options(options: str | Sequence[str]) -> list[str]:
    """Translates options of singularity into those of `lazyfs run`; `-B A:/a,B:/b` gives two binds.

    Raises UsageError for an option that has no counterpart; its message says what to do instead.
    """
    try:
        words = shlex.split(options) if isinstance(options, str) else list(options)
    except ValueError as error:
        raise UsageError(f"container_options {options!r}: {error}") from None
    return list(_translated(words))


def _translated(words: list[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        name, separator, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in _WITH_VALUE:
            value = value if separator else next(rest, "")
            if not value or value.startswith("-"):
                raise UsageError(f"container_options: {name} takes a value")
            for each in _binds(value) if _WITH_VALUE[name] == "--bind" else [value]:
                yield from (_WITH_VALUE[name], each)
        elif word in FLAGS:
            yield word
        elif word in ("--net", "--network=none") or (name == "--network" and next(rest, "") == "none"):
            yield from ("--network", "none")
        elif name not in _ALWAYS_SO and word not in _ALWAYS_SO:
            remedy = _REFUSED.get(name, f"{word!r} has no counterpart in lazyfs run")
            raise UsageError(f"container_options: {remedy}")


def _binds(value: str) -> list[str]:
    """Splits a comma-separated list of binds. A comma between two modes of one bind does not split it."""
    found: list[str] = []
    for part in value.split(","):
        if part in ("ro", "rw", "required") and found:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found
