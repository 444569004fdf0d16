"""What is to be started: a command in a root filesystem, with what of the host it may see."""

import os.path
from dataclasses import dataclass, field

from lazyfs.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host shown inside."""

    source: str
    target: str
    """Absolute, as the program sees it; need not exist in the image."""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """One start. Paths are str; names that are not UTF-8 come through os.fsdecode."""

    root: str
    """The image's root filesystem on the host, links in its path resolved."""
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    """All the program gets: nothing of the caller's own environment is added."""
    workdir: str = "/"
    binds: tuple[Bind, ...] = ()


def parse_bind(text: str) -> Bind:
    """`SRC[:DST[:ro|rw]]`, as every container tool writes it; DST defaults to SRC. Raises UsageError."""
    parts = text.split(":")
    mode = parts[2] if len(parts) == 3 else "rw"
    if len(parts) > 3 or not parts[0] or mode not in ("ro", "rw"):
        raise UsageError(f"bind {text!r}: write SRC, SRC:DST or SRC:DST:ro")
    target = parts[1] if len(parts) > 1 and parts[1] else os.path.abspath(parts[0])
    target = os.path.normpath(target)
    if not target.startswith("/") or target == "/":
        raise UsageError(f"bind {text!r}: the target {target!r} must be an absolute path below /")
    return Bind(os.path.abspath(parts[0]), target, read_only=mode == "ro")
