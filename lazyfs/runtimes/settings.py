"""A site's settings for starting programs: /etc/lazyfs/run.toml, or the file of LAZYFS_RUN_SETTINGS."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.isolation import LEVELS
from lazyfs.runtimes.launch import Bind, parse_bind
from lazyfs.runtimes.registry import BUILT_IN

PATH = "/etc/lazyfs/run.toml"
VARIABLE = "LAZYFS_RUN_SETTINGS"
_LIMIT = 1 << 20
_KEYS: Final = frozenset(
    {"runtimes", "binds", "isolation", "programs", "container_type", "container_options"}
)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings, with their defaults."""

    runtimes: tuple[str, ...] = tuple(BUILT_IN)
    """Names in the order of preference; others are not chosen."""
    binds: tuple[Bind, ...] = ()
    """Binds of every start; one whose source does not exist is left out without a warning."""
    isolation: str = "best"
    programs: Mapping[str, str] = field(default_factory=dict)
    """Runtime's name -> path of its executable, for example on a mount."""


def read_settings() -> RunSettings:
    """Returns the site's settings; the defaults if there is no file. Raises UsageError, which names the file
    and the key."""
    given = os.environ.get(VARIABLE)
    path = given or PATH
    try:
        with open(path, "rb") as file:
            raw = file.read(_LIMIT)
    except FileNotFoundError:
        if given:
            raise UsageError(f"{path}, which {VARIABLE} names, does not exist") from None
        return RunSettings()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return parse_settings(raw, path)


def parse_settings(raw: bytes, path: str) -> RunSettings:
    """Parses the file's content; `path` names it in errors. Raises UsageError."""
    import tomllib

    try:
        found = tomllib.loads(raw.decode())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    unknown = sorted(set(found) - _KEYS)
    if unknown:
        raise UsageError(f"{path}: {unknown[0]!a} is no setting; there are {', '.join(sorted(_KEYS))}")
    programs = found.get("programs", {})
    if not isinstance(programs, dict) or not all(
        isinstance(value, str) and value.startswith("/") for value in programs.values()
    ):
        raise UsageError(f'{path}: [programs] takes NAME = "/path/of/its/executable"')
    isolation = found.get("isolation", "best")
    if isolation not in LEVELS:
        raise UsageError(f"{path}: isolation is {isolation!a}; it takes {', '.join(LEVELS)}")
    try:
        binds = (*(parse_bind(bind) for bind in _texts(found, "binds")), *_binds_of_queue(found))
        runtimes = _texts(found, "runtimes") or _runtimes_of_queue(found) or tuple(BUILT_IN)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return RunSettings(runtimes, binds, isolation, programs)


def _runtimes_of_queue(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the runtimes that the pilot starts, of ATLAS's container_type. Raises UsageError."""
    from lazyfs.runtimes.container_options import parse_container_type

    text = found.get("container_type", "")
    parts = parse_container_type(str(text)) if text != "" else []
    return tuple(part.runtime for part in parts if part.user == "pilot")


def _binds_of_queue(found: Mapping[str, Any]) -> list[Bind]:
    """Returns the binds of ATLAS's container_options. Raises UsageError."""
    from lazyfs.runtimes.container_options import parse_options

    words = parse_options(str(found.get("container_options", "")))
    pairs = list(zip(words[::2], words[1::2], strict=True))
    others = [name for name, _ in pairs if name != "--bind"]
    if others:
        raise UsageError(f"container_options: {others[0]} is no matter of a site; only binds are")
    return [parse_bind(value) for _, value in pairs]


def _texts(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = found.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{key} takes a list of texts")
    return tuple(values)
