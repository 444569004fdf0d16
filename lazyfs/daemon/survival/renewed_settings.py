"""The settings of a mount after `lazyfs reload`: its settings file is read anew, all other settings stay."""

from collections.abc import Mapping
from typing import Any

from lazyfs.core.errors import UsageError
from lazyfs.daemon.mount_options import MOUNT_OPTIONS
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.wanted_settings import WantedSettings, wanted_settings

FIXED = (
    "mountpoint", "source", "revision", "cache", "fuse", "suid", "dev", "inode32", "permissions", "user",
    "uid", "gid", "no_keeper",
)  # fmt: skip
"""Settings that a live mount keeps: the kernel, open files or the state on disk depend on them."""


def renewed(old: WantedSettings, config: str | None, options: Mapping[str, Any]) -> WantedSettings:
    """Returns the settings of a live mount with its file read anew.

    `config`: the file to read; None for the mount's own. `options`: new values of options, None for an option
    that keeps the value it was given. Raises UsageError.
    """
    files = {origin.place.rpartition(":")[0] for origin in old.origins.values() if origin.kind == "file"}
    file = config or next(iter(files), None)
    kept: dict[str, Any] = {}
    variables = []
    for option in MOUNT_OPTIONS:
        origin = old.origins.get(option.field)
        if options.get(option.field) is not None:
            kept[option.field] = options[option.field]
        elif origin is not None and origin.kind in ("command line", "environment"):
            value = getattr(old.settings, option.field)
            kept[option.field] = f"@{origin.through}" if origin.through else value
            if origin.kind == "environment":
                variables.append(option.field)
    places = [old.settings.mountpoint]
    if "source" in old.origins and old.origins["source"].kind == "command line":
        places.insert(0, old.settings.source)
    new = wanted_settings(places, file, kept, variables)
    check_live(old.settings, new.settings)
    return new


def check_live(old: Settings, new: Settings) -> None:
    """Raises UsageError if a live mount cannot have the new settings."""
    changed = [name.replace("_", "-") for name in FIXED if getattr(old, name) != getattr(new, name)]
    if changed:
        raise UsageError(f"cannot be changed while mounted: {', '.join(changed)}; umount, and mount again")
    for name, source in old.repositories.items():
        other = new.repositories.get(name)
        if other is None or other.url != source.url:
            wrong = "is gone" if other is None else "has another url"
            raise UsageError(
                f"repository {name} {wrong}: cannot be changed while mounted; umount, and mount again"
            )
