"""The settings that a command line, a TOML file and the environment together ask for, with their origins."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.daemon.mount_options import MOUNT_OPTIONS
from lazyfs.daemon.setting_origins import Origin, file_origins
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.settings_input import check, parse, read_file, with_absolute_paths
from lazyfs.system.mountpoint import absolute


class WantedSettings(NamedTuple):
    """Checked settings, and their origins."""

    settings: Settings
    origins: dict[str, Origin]
    """The origin of each setting that was given, by its name in TOML; all other settings have their
    defaults."""


def wanted_settings(
    places: Sequence[str],
    config: str | None,
    options: Mapping[str, Any],
    by_variable: Collection[str] = (),
) -> WantedSettings:
    """Returns the settings of `lazyfs mount [SOURCE] MOUNTPOINT --config FILE`.

    `places`: [SOURCE] MOUNTPOINT. `config`: FILE. `options`: the value of each option, None for one that was
    not given. `by_variable`: the options whose values come from environment variables. The command line wins
    over the file. Raises UsageError.
    """
    if len(places) > 2:
        raise UsageError(f"{len(places)} places given: write lazyfs mount URL MOUNTPOINT")
    fields, origins = _of_file(config) if config else ({}, {})
    typed = {name: value for name, value in options.items() if value is not None}
    if len(places) == 2:
        typed["source"] = places[0]
        fields.pop("repositories", None)
    if places:
        typed["mountpoint"] = places[-1]
    fields |= typed
    variables = {option.field: option.environment for option in MOUNT_OPTIONS}
    for name, value in typed.items():
        through = value.removeprefix("@") if isinstance(value, str) and value.startswith("@") else ""
        if name in by_variable:
            origins[name] = Origin("environment", variables[name], through)
        else:
            origins[name] = Origin("command line", "", through)
    if not fields.get("mountpoint"):
        raise UsageError("no mount point: write lazyfs mount URL MOUNTPOINT, or mountpoint = ... in --config")
    fields["mountpoint"] = absolute(str(fields["mountpoint"]))
    if len(places) == 1 and not config:
        raise UsageError(
            f"{places[0]} is taken for the mount point, and nothing says what to mount there: "
            "write lazyfs mount URL MOUNTPOINT"
        )
    settings = check(fields, f"--config {config}" if config else "mount")
    return WantedSettings(with_absolute_paths(settings), origins)


def from_environment() -> dict[str, str]:
    """Returns the values that environment variables give to options, by the option's name in `Settings`."""
    return {
        option.field: os.environ[option.environment]
        for option in MOUNT_OPTIONS
        if option.environment and os.environ.get(option.environment)
    }


def _of_file(config: str) -> tuple[dict[str, Any], dict[str, Origin]]:
    data = read_file(config)
    fields = parse(data, f"--config {config}")
    return fields, file_origins(data, os.path.abspath(config))
