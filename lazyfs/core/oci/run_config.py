"""The part of an image's config that states how a program is started from it (OCI image-spec, config.md).

Imports the standard library only: every start of a program reads this part, and importing msgspec takes 10
ms.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from lazyfs.core.errors import FormatError
from lazyfs.core.foreign_text import check_text

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH where an image sets none; docker and podman use the same."""
MAX_CONFIG = 8 << 20
"""The largest number of bytes of an image's config."""


class StartConfig(NamedTuple):
    """The start parameters of an image; those that it does not state are empty."""

    env: list[str]
    entrypoint: list[str]
    cmd: list[str]
    working_dir: str

    @property
    def environment(self) -> dict[str, str]:
        return variables(self.env)


def variables(entries: Iterable[str] | None) -> dict[str, str]:
    """Returns the values of environment variables by name, from entries `NAME=VALUE`; of equal names the last
    one counts. Leaves out entries without a name or without `=`, which no program can be given."""
    pairs = (entry.partition("=") for entry in entries or ())
    return {name: value for name, separator, value in pairs if name and separator}


def parse_run_config(data: bytes, origin: str) -> StartConfig:
    """Reads the start parameters from an image's config; `origin` names the config in errors.

    Raises FormatError for an invalid config, and for text that no program can be given (NUL and other control
    characters).
    """
    try:
        document = json.loads(data.decode())
        run = _object(_object(document, "the config").get("config"), "config")
        found = StartConfig(
            _texts(run, "Env"), _texts(run, "Entrypoint"), _texts(run, "Cmd"), _text(run, "WorkingDir")
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{origin}: not an image configuration: {ascii(str(error))[1:-1]}") from None
    for field, values in (("Env", found.env), ("Entrypoint", found.entrypoint), ("Cmd", found.cmd)):
        for number, value in enumerate(values):
            check_text(value, f"{origin}: {field}[{number}]")
    for name in found.environment:
        check_text(name, f"{origin}: the name of a variable in Env", lines=False)
    check_text(found.working_dir, f"{origin}: WorkingDir", lines=False)
    return found


def _object(value: Any, name: str) -> dict[str, Any]:
    """Returns a JSON object; an empty one for null. Raises ValueError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")  # noqa: TRY004 - as json says it
    return value


def _texts(run: dict[str, Any], field: str) -> list[str]:
    values = run.get(field)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{field} is no list of texts")
    return values


def _text(run: dict[str, Any], field: str) -> str:
    value = run.get(field)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{field} is no text")
    return value or ""
