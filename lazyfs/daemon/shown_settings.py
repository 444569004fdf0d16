"""The settings of a mount as `lazyfs showconfig` shows them: without passwords, each with its origin."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from lazyfs.core.chain.notation import without_secrets
from lazyfs.daemon.cache_directory import default_cache
from lazyfs.daemon.mount_options import MOUNT_OPTIONS
from lazyfs.daemon.setting_origins import DEFAULT, Origin, dotted
from lazyfs.daemon.settings import RepositorySource, Settings

_SECRET = ("source", "url", "proxy")
_INHERITED = ("proxy", "ca", "client_cert", "client_key")


class ShownSetting(msgspec.Struct, frozen=True):
    """One setting, with its secrets left out."""

    name: str
    """The name in TOML's notation."""
    value: str | int | float | bool | None
    """The value; None if nothing was given and there is no default value."""
    meaning: str
    """The value in words if nothing was given, such as `auto: direct where it works`; otherwise empty."""
    origin: Origin


def shown_settings(settings: Settings, origins: Mapping[str, Origin]) -> list[ShownSetting]:
    """Returns every setting of a mount and of each repository of a site."""
    found = [_given("mountpoint", settings.mountpoint, origins)]
    if not settings.is_site():
        found.append(_given("source", settings.source, origins))
    for option in MOUNT_OPTIONS:
        value = getattr(settings, option.field)
        if option.field in origins:
            found.append(_given(option.field, value, origins))
        else:
            value = default_cache() if option.field == "cache" else value
            found.append(ShownSetting(option.field, value, option.default, DEFAULT))
    if settings.profile is not None:
        for field, value in msgspec.structs.asdict(settings.profile).items():
            if value is not None:
                found.append(_given(dotted(("profile", field)), value, origins, field))
    for name, source in settings.sources().items():
        found += _of_repository(name, settings.repositories[name], source, origins)
    return found


def _of_repository(
    name: str, given: RepositorySource, used: RepositorySource, origins: Mapping[str, Origin]
) -> Iterator[ShownSetting]:
    for field, value in msgspec.structs.asdict(used).items():
        full = dotted(("repositories", name, field))
        if value is not None and getattr(given, field) is None and field in _INHERITED:
            yield ShownSetting(full, _plain(field, value), "", Origin("mount"))
        elif value is not None:
            yield _given(full, value, origins, field)


def _given(name: str, value: Any, origins: Mapping[str, Origin], field: str = "") -> ShownSetting:
    return ShownSetting(name, _plain(field or name, value), "", origins.get(name, DEFAULT))


def _plain(field: str, value: Any) -> Any:
    return without_secrets(value) if field in _SECRET and isinstance(value, str) else value
