"""The service's configuration: a TOML file of the operator's. Nothing else can switch a protection off.

[service]
layout = "cern"
platforms = ["linux/amd64"]

[registries."registry.example"]
address = "127.0.0.1:5000"        # where its API really is
plain-http = true
publish-private = true            # images that need an account may be read by all who reach the store
username = "reader"
password-file = "/etc/lazyfs/password"
"""

import tomllib
from typing import Any

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.platform import parse_platform
from lazyfs.core.oci.reference import HUB, HUB_HOSTS
from lazyfs.core.wishlist.wish import CERN, LAYOUTS

MOST_PARALLEL = 64


class RegistrySettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The operator's settings for one registry."""

    address: str = ""
    """host[:port] of its API, if it is another than its name says."""
    plain_http: bool = False
    publish_private: bool = False
    """True to publish images that only an account may read: everybody who reaches the store can then read
    them."""
    username: str | None = None
    password_file: str | None = None
    authfile: str | None = None
    parallel: int = 4
    """Requests at a time that wait for an answer."""
    minutes_per_run: float = 720.0
    """Minutes for which one run asks it, from the first request on. After that its other images fail and keep
    their last version."""


class ServiceSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The operator's settings for the service."""

    layout: str = CERN
    platforms: list[str] = []
    """The images' own names lead to the first one; the others hang below .multiarch. Empty: this
    machine's."""
    images_at_once: int = 2
    """Images that are read side by side: each holds the records of its layers in memory."""
    images_per_revision: int = 20
    minutes_per_revision: float = 10.0
    max_delete: int = 20
    """Images that one run may take out of the tree; if there are more it takes none."""
    grace_hours: float = 0.0
    """Time for which an image stays after it is no longer wished, or no longer there."""
    site: str = ""
    """Directory of the status site; empty: `site` in the status directory."""
    last_update: bool = True
    """True to write logDir/lastUpdate with each revision, which ATLAS's pilot looks for."""

    @property
    def chosen_platforms(self) -> tuple[Platform, ...]:
        return tuple(parse_platform(text) for text in self.platforms)


class Settings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The whole file."""

    service: ServiceSettings = ServiceSettings()
    registries: dict[str, RegistrySettings] = {}


def read_settings(path: str | None) -> Settings:
    """Reads the file; without one, the defaults. Raises UsageError that names the file and the field."""
    if path is None:
        return Settings()
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration {path}: not TOML: {error}") from None
    return _checked(path, document)


def _checked(path: str, document: dict[str, Any]) -> Settings:
    try:
        found = msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"configuration {path}: {error}") from None
    service = found.service
    for name, value, least, most in (
        ("images-at-once", service.images_at_once, 1, MOST_PARALLEL),
        ("images-per-revision", service.images_per_revision, 1, 1_000_000),
        ("minutes-per-revision", service.minutes_per_revision, 0, 1_000_000),
        ("max-delete", service.max_delete, 0, 1_000_000_000),
        ("grace-hours", service.grace_hours, 0, 1_000_000),
        *(
            (f"registries.{key}: parallel", one.parallel, 1, MOST_PARALLEL)
            for key, one in found.registries.items()
        ),
        *(
            (f"registries.{key}: minutes-per-run", one.minutes_per_run, 1, 1_000_000)
            for key, one in found.registries.items()
        ),
    ):
        if not least <= value <= most:
            raise UsageError(f"configuration {path}: {name} = {value} is not from {least} to {most}")
    if service.layout not in LAYOUTS:
        raise UsageError(f"configuration {path}: layout {service.layout!r} is none of {', '.join(LAYOUTS)}")
    try:
        _ = service.chosen_platforms
    except UsageError as error:
        raise UsageError(f"configuration {path}: {error}") from None
    registries: dict[str, RegistrySettings] = {}
    for name, one in found.registries.items():
        known = HUB if name in HUB_HOSTS else name
        if known in registries:
            raise UsageError(
                f"configuration {path}: registries has Docker Hub twice; it has the names "
                f"{', '.join(HUB_HOSTS)}"
            )
        registries[known] = one
    return msgspec.structs.replace(found, registries=registries)
