"""Paths as a program inside a root filesystem sees them, looked up from outside."""

import errno
import os
import stat

from lazyfs.core.errors import UsageError

_MAX_LINKS = 40  # as the kernel has it: ELOOP above


def resolve(root: str, path: str) -> tuple[str, str]:
    """The path with every link followed inside `root`, as (what exists, what does not).

    Both are absolute inside the root and free of links; joined they are where `path` would be: resolving
    `/var/run/x` where /var/run -> /run and /run is empty gives (`/run`, `x`). Absolute links and `..` never
    leave the root. Raises UsageError for a loop of links and for a path that goes on below a file.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    found = "/"
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            found = os.path.dirname(found)
            continue
        candidate = os.path.join(found, part)
        try:
            status = os.lstat(root + candidate)
        except FileNotFoundError:
            missing = [part, *reversed(pending)]
            if ".." in missing:
                raise UsageError(f"{path}: goes through {candidate}, which the image does not have") from None
            return found, "/".join(missing)
        except OSError as error:
            raise UsageError(f"{path}: {candidate} in the image: {error.strerror}") from error
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise UsageError(f"{path}: {os.strerror(errno.ELOOP)} in the image")
            target = os.readlink(root + candidate)
            if target.startswith("/"):
                found = "/"
            pending.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        elif pending and not stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{path}: {candidate} in the image is a file")
        else:
            found = candidate
    return found, ""


def read(root: str, path: str) -> bytes | None:
    """A regular file's content, links followed inside the root; None if the image does not have it."""
    found, missing = resolve(root, path)
    if missing or not stat.S_ISREG(os.lstat(root + found).st_mode):
        return None
    with open(root + found, "rb") as file:
        return file.read()
