"""The settings of a computing site for starting programs: /etc/lazyfs/run.toml, or the file of
LAZYFS_RUN_SETTINGS."""

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.isolation import LEVELS
from lazyfs.runtimes.launch import Bind, parse_bind
from lazyfs.runtimes.records import NOTHING
from lazyfs.runtimes.registry import BUILT_IN
from lazyfs.system import bounded_file

PATH = "/etc/lazyfs/run.toml"
VARIABLE = "LAZYFS_RUN_SETTINGS"
_LIMIT = 1 << 20
_KEYS: Final = frozenset(
    {
        "runtimes",
        "binds",
        "isolation",
        "programs",
        "container_type",
        "container_options",
        "image_store",
        "image_limit",
    }
)


class RunSettings(NamedTuple):
    """The settings, with their defaults."""

    runtimes: tuple[str, ...] = tuple(BUILT_IN)
    """Names of the runtimes that may be chosen, in the order of preference."""
    binds: tuple[Bind, ...] = ()
    """Binds of every start. A bind is left out without a warning if its source does not exist."""
    isolation: str = "best"
    programs: Mapping[str, str] = NOTHING
    """The paths of runtimes' executables, which may be on a mount, by the runtime's name; for docker, the
    path of the daemon's socket."""
    image_store: str | None = None
    """The directory that has a store of pulled images for each user, in a folder with the user id as its
    name; None for each user's own default directory."""
    image_limit: str = "20G"
    """The largest number of bytes that a store of pulled images may hold."""
    gpus: tuple[str, ...] = ()
    """Kinds of GPU that every start gets if the machine has them."""


def read_settings() -> RunSettings:
    """Returns the computing site's settings; the defaults if there is no file. Raises UsageError, which names
    the file and the key."""
    given = os.environ.get(VARIABLE)
    path = given or PATH
    try:
        raw = bounded_file.read_file(path, _LIMIT + 1)
    except FileNotFoundError:
        if given:
            raise UsageError(f"{path}, which {VARIABLE} names, does not exist") from None
        return RunSettings()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(raw) > _LIMIT:
        raise UsageError(f"{path}: more than {_LIMIT} bytes: that is no file of settings")
    return parse_settings(raw, path)


def parse_settings(raw: bytes, path: str) -> RunSettings:
    """Parses the content of a settings file; `path` names the file in errors. Raises UsageError."""
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
        queue, gpus = _options_of_queue(found)
        binds = (*(parse_bind(bind) for bind in _texts(found, "binds")), *queue)
        runtimes = _texts(found, "runtimes") or _runtimes_of_queue(found) or tuple(BUILT_IN)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    store, limit = found.get("image_store"), found.get("image_limit", "20G")
    if store is not None and not (isinstance(store, str) and store.startswith("/")):
        raise UsageError(f'{path}: image_store = "/path/of/a/directory"')
    if not isinstance(limit, str):
        raise UsageError(f'{path}: image_limit = "20G"')
    return RunSettings(runtimes, binds, isolation, programs, store, limit, gpus)


def _runtimes_of_queue(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of those runtimes in ATLAS's `container_type` of which it says that the pilot starts
    them. `found`: the content of the settings file. Raises UsageError."""
    from lazyfs.runtimes.container_options import parse_container_type

    text = found.get("container_type", "")
    parts = parse_container_type(str(text)) if text != "" else []
    return tuple(part.runtime for part in parts if part.user == "pilot")


def _options_of_queue(found: Mapping[str, Any]) -> tuple[list[Bind], tuple[str, ...]]:
    """Returns the binds and the kinds of GPU in ATLAS's `container_options`. `found`: the content of the
    settings file. Raises UsageError."""
    from lazyfs.runtimes.container_options import FLAGS, parse_options

    words = parse_options(str(found.get("container_options", "")))
    gpus = tuple(word.removeprefix("--") for word in words if word in FLAGS)
    words = [word for word in words if word not in FLAGS]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    others = [name for name, _ in pairs if name != "--bind"]
    if others:
        raise UsageError(f"container_options: {others[0]} is no matter of a site; only binds are")
    return [parse_bind(value) for _, value in pairs], gpus


def _texts(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = found.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{key} takes a list of texts")
    return tuple(values)
