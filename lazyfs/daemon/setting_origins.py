"""The origin of each setting of a mount: its default, a line of a file, the command line, a variable."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

_BARE = r"[A-Za-z0-9_-]+"
_Path = tuple[str, ...]


class Origin(msgspec.Struct, frozen=True):
    """The place that a setting's value comes from."""

    kind: Literal["default", "file", "command line", "environment", "mount"]
    """The kind of place. `mount` means that a repository of a site has the mount's own setting."""
    place: str = ""
    """The file with its line, as in `/etc/lazyfs/site.toml:3`, or the variable; otherwise empty."""
    through: str = ""
    """The file that holds the value, if it was given as @FILE."""

    def __str__(self) -> str:
        text = f"{self.kind} {self.place}".strip() if self.kind != "mount" else "the mount's own"
        return f"{text}, from @{self.through}" if self.through else text


DEFAULT = Origin("default")


def dotted(path: _Path) -> str:
    """Returns a setting's name in TOML's notation, as in `repositories."a.example".url`."""
    return ".".join(
        part if re.fullmatch(_BARE, part) else json.dumps(part, ensure_ascii=False) for part in path
    )


def file_origins(data: bytes, path: str) -> dict[str, Origin]:
    """Returns the origin of each setting in a TOML file that can be parsed, by its dotted name. `path`: the
    file's name in the answer."""
    import tomllib  # imported only here: it takes 2 ms, and mounts without a file of settings do without

    found: dict[str, Origin] = {}
    section: _Path = ()
    for line, statement in _statements(data.decode()):
        fields = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            section = _innermost(fields)
            continue
        for inner, value in _leaves(fields, ()):
            through = value.removeprefix("@") if isinstance(value, str) and value.startswith("@") else ""
            found[dotted((*section, *inner))] = Origin("file", f"{path}:{line}", through)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yields each key with its value, and each section's head, as (number of its first line, text).

    A value may go on in the next lines, such as an array or a text in three quotes. So lines are added until
    the text is valid TOML.
    """
    lines = [line + "\n" for line in text.split("\n")]  # not splitlines, which knows more ends of lines
    first = 0
    while first < len(lines):
        last = first + 1
        while not _is_toml("".join(lines[first:last])) and last < len(lines):
            last += 1
        yield first + 1, "".join(lines[first:last])
        first = last


def _is_toml(text: str) -> bool:
    import tomllib

    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _innermost(fields: Mapping[str, Any]) -> _Path:
    path: _Path = ()
    inner: Any = fields
    while isinstance(inner, dict) and inner:
        (name,) = inner
        path, inner = (*path, name), inner[name]
    return path


def _leaves(fields: Mapping[str, Any], above: _Path) -> Iterator[tuple[_Path, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value
