"""The outputs of a job: finds them by patterns in the working directory, and copies them out of it.

The program has made the names and chosen the types. So no link is followed, neither in the working directory
nor among the results of an earlier job; and what cannot be copied is told by name, and stops nothing else.
"""

import errno
import fnmatch
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from lazyfs.core.errors import UsageError

_LEADS_OUT = "leads out of the job's directory"


class Outputs(NamedTuple):
    """What has become of the outputs."""

    copied: dict[str, str]
    """Name below the working directory -> path of the copy."""
    uncopied: dict[str, str]
    """Name below the working directory, or pattern -> the reason why it was not copied, in words that follow
    the name."""


def check_patterns(patterns: Sequence[str]) -> None:
    """Raises UsageError for a pattern of names that are not below the working directory."""
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise UsageError(f"output {pattern!a} {_LEADS_OUT}: write a name or pattern below it")


def carry_out(work: str, patterns: Sequence[str], results: str, reserved: Collection[str]) -> Outputs:
    """Copies files and directories of the directory `work` whose names match the patterns into the directory
    `results`, each once. Links are copied as links; pipes and the like are left out. `reserved`: names in
    `results` that are not for outputs."""
    copies = _Copies(work, results, reserved)
    for pattern in filter(None, patterns):
        try:
            for name in _matching(work, [part for part in pattern.split("/") if part not in ("", ".")], ""):
                copies.add(name)
        except OSError as error:
            copies.outputs.uncopied[pattern] = _reason(error)
    return copies.outputs


def _matching(top: str, parts: list[str], under: str) -> Iterator[str]:
    """Yields the names below `top` that match the rest of a pattern, where `under` matches its beginning. As
    in a shell, `*` matches no hidden name; `**` stands for any number of directories. Raises OSError."""
    if not parts:
        yield under or "."
        return
    first, rest = parts[0], parts[1:]
    if first == "**":
        for directory in _directories(top, under):
            yield from _matching(top, rest or ["*"], directory)
    elif any(character in first for character in "*?["):
        for name in _names(top, under):
            is_hidden = name.startswith(".") and not first.startswith(".")
            if fnmatch.fnmatchcase(name, first) and not is_hidden:
                path = os.path.join(under, name)
                if not rest or _is_directory(os.path.join(top, path)):
                    yield from _matching(top, rest, path)
    else:
        name = os.path.join(under, first)
        if rest and not _is_inside(top, os.path.join(top, name)):
            yield os.path.join(name, *rest)  # to be refused by this name
        elif os.path.isdir(os.path.join(top, name)) if rest else os.path.lexists(os.path.join(top, name)):
            yield from _matching(top, rest, name)


def _directories(top: str, under: str) -> Iterator[str]:
    """Yields `under` and all directories below it, but hidden ones. Follows no link, since links in a circle
    have no end; and does not call itself, since a program can nest directories deeper than Python calls."""
    pending = [under]
    while pending:
        directory = pending.pop()
        yield directory
        paths = [os.path.join(directory, name) for name in _names(top, directory) if not name.startswith(".")]
        pending += [path for path in reversed(paths) if _is_directory(os.path.join(top, path))]


def _names(top: str, directory: str) -> list[str]:
    return sorted(os.listdir(os.path.join(top, directory)))


def _is_directory(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _is_inside(top: str, path: str) -> bool:
    real, above = os.path.realpath(path), os.path.realpath(top)
    return real == above or real.startswith(f"{above}/")


class _Copies:
    """The copies in the directory for results."""

    def __init__(self, work: str, results: str, reserved: Collection[str]) -> None:
        self._work = work
        self._results = results
        self._reserved = frozenset(reserved)
        self._seen: set[str] = set()
        self.outputs = Outputs({}, {})

    def add(self, name: str) -> None:
        """Copies an output, a directory with all that it holds."""
        if not _is_inside(self._work, os.path.dirname(self._source(name))):
            self.outputs.uncopied[name] = _LEADS_OUT
            return
        parts = name.split("/")
        try:
            for number in range(1, len(parts)):
                _make_directory(self._target("/".join(parts[:number])))
        except OSError as error:
            self.outputs.uncopied[name] = _reason(error)
            return
        if _is_copied(os.lstat(self._source(name)).st_mode):
            self._copy_tree(name)
            if name not in self.outputs.uncopied:
                self.outputs.copied[name] = self._target(name)

    def _copy_tree(self, top: str) -> None:
        directories = []
        pending = [top]
        while pending:
            name = pending.pop()
            if name in self._seen:
                continue
            self._seen.add(name)
            try:
                if self._copy(name):
                    directories.append(name)
                    pending += [
                        os.path.normpath(os.path.join(name, each)) for each in _names(self._work, name)
                    ]
            except OSError as error:
                self.outputs.uncopied[name] = _reason(error)
        for name in reversed(directories):  # not before, as the mode may forbid to write there
            self._copy_mode(name)

    def _copy(self, name: str) -> bool:
        """Copies a file or link, or makes a directory; returns True if it is a directory. Raises OSError."""
        if name in self._reserved:
            raise FileExistsError(errno.EEXIST, "a file of lazyfs's own has this name")
        mode = os.lstat(self._source(name)).st_mode
        if stat.S_ISDIR(mode):
            if name != ".":
                _make_directory(self._target(name))
            return True
        if _is_copied(mode):
            _copy_file(self._source(name), self._target(name))
            self._copy_mode(name)
        return False

    def _copy_mode(self, name: str) -> None:
        """Gives the copy the mode and times, unless the filesystem has none."""
        with suppress(OSError):
            shutil.copystat(self._source(name), self._target(name), follow_symlinks=False)

    def _source(self, name: str) -> str:
        return os.path.join(self._work, name)

    def _target(self, name: str) -> str:
        return os.path.normpath(os.path.join(self._results, name))


def _is_copied(mode: int) -> bool:
    """Returns False for pipes and the like: reading one would wait for ever."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


def _make_directory(path: str) -> None:
    """Makes a directory if it is not there. A link is replaced: it is an earlier job's. Raises OSError."""
    if os.path.islink(path):
        os.unlink(path)
    if not os.path.isdir(path):
        os.mkdir(path)


def _copy_file(source: str, target: str) -> None:
    """Copies a file or link in place of an earlier one, and leaves no part of a file. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(target)
    try:
        shutil.copyfile(source, target, follow_symlinks=False)
    except OSError:
        with suppress(OSError):
            os.unlink(target)
        raise


def _reason(error: OSError) -> str:
    return f"cannot be copied: {error.strerror or error}"
