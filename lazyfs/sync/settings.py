"""The service's configuration: a TOML file of the operator's. Only this file can switch a protection off.

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

import platform as host
import tomllib

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.core.field_faults import shown_fault
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.platform import parse_platform
from lazyfs.core.oci.reference import HUB, HUB_HOSTS
from lazyfs.core.wishlist.wish import CERN, LAYOUTS
from lazyfs.sync.acknowledged import Acknowledgement
from lazyfs.sync.quotas import Quota
from lazyfs.sync.sections import (
    AcknowledgedSettings,
    ListenSettings,
    NotifySettings,
    OwnerSettings,
    ProfileSettings,
)
from lazyfs.system import bounded_file

MOST_PARALLEL = 64
LARGEST_FILE = 16 << 20
"""The largest number of bytes in a configuration."""


class RegistrySettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The operator's settings for one registry."""

    address: str = ""
    """host[:port] of the registry's API, if it differs from the registry's name."""
    plain_http: bool = False
    publish_private: bool = False
    """True to publish images that can be read only with an account: everybody who reaches the store can then
    read them."""
    username: str | None = None
    password_file: str | None = None
    authfile: str | None = None
    parallel: int = 4
    """The largest number of requests that wait for an answer at a time."""
    minutes_per_run: float = 720.0
    """The time in minutes for which one run may ask the registry, counted from the first request. After that
    the registry's other images fail and keep their last version."""


class ServiceSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The operator's settings for the service."""

    layout: str = CERN
    platforms: list[str] = []
    """Platforms to publish. An image's own place has the image for the first platform; the images for all
    platforms are below .multiarch. Empty: this machine's platform."""
    images_at_once: int = 2
    """The largest number of images that are read at the same time. Each needs memory for the records of its
    layers."""
    images_per_revision: int = 20
    minutes_per_revision: float = 10.0
    max_delete: int = 20
    """The largest number of images that one run may remove from the tree; if more are due, it removes
    none."""
    grace_hours: float = 0.0
    """Grace period: hours for which an image stays after it is no longer wished, or is gone from its
    registry."""
    site: str = ""
    """Directory of the status site; empty: `site` in the status directory."""
    site_in_store: bool = False
    """True to write a site of the public images, without owners and lists, into the store too."""
    last_update: bool = True
    """True to write logDir/lastUpdate with each revision; ATLAS's pilot looks for this file."""

    @property
    def chosen_platforms(self) -> tuple[Platform, ...]:
        return tuple(parse_platform(text) for text in self.platforms)

    @property
    def first_platform(self) -> Platform:
        """The first of `platforms`, or this machine's platform if there are none: an image's own place has
        the image for this platform."""
        return parse_platform(self.platforms[0] if self.platforms else host.machine())


class Settings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The content of the configuration file."""

    service: ServiceSettings = ServiceSettings()
    registries: dict[str, RegistrySettings] = {}
    listen: dict[str, ListenSettings] = {}
    notify: dict[str, NotifySettings] = {}
    acknowledged: tuple[AcknowledgedSettings, ...] = ()
    owners: dict[str, OwnerSettings] = {}
    """Owner's name -> section; `*` is for every owner without a section."""
    profiles: ProfileSettings = ProfileSettings()

    @property
    def acknowledgements(self) -> list[Acknowledgement]:
        return [one.acknowledgement() for one in self.acknowledged]

    @property
    def quotas(self) -> dict[str, Quota]:
        return {name: one.quota() for name, one in self.owners.items()}


def read_settings(path: str | None) -> Settings:
    """Reads the configuration file; returns the defaults if `path` is None. Raises UsageError that names the
    file and the field."""
    if path is None:
        return Settings()
    try:
        data = bounded_file.read_file(path, LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise UsageError(f"configuration {path}: more than {LARGEST_FILE} bytes")
        document = tomllib.loads(data.decode())
    except OSError as error:
        raise UsageError(f"configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration {path}: not TOML: {error}") from None
    try:
        found = msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"configuration {path}: {shown_fault(error, Settings)}") from None
    return checked(found, f"configuration {path}")


def checked(found: Settings, origin: str) -> Settings:
    """Checks settings, and returns them. Docker Hub, which has several names, has only one of them in the
    result. `origin`: a name, for messages, of the place that the settings come from. Raises UsageError, which
    names `origin` and the field."""
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
            raise UsageError(f"{origin}: {name} = {value} is not from {least} to {most}")
    if service.layout not in LAYOUTS:
        raise UsageError(f"{origin}: layout {service.layout!r} is none of {', '.join(LAYOUTS)}")
    try:
        _ = service.chosen_platforms
    except UsageError as error:
        raise UsageError(f"{origin}: {error}") from None
    _check_sections(origin, found)
    registries: dict[str, RegistrySettings] = {}
    for name, one in found.registries.items():
        known = HUB if name in HUB_HOSTS else name
        if known in registries:
            raise UsageError(
                f"{origin}: registries has Docker Hub twice; it has the names {', '.join(HUB_HOSTS)}"
            )
        registries[known] = one
    return msgspec.structs.replace(found, registries=registries)


def _check_sections(origin: str, found: Settings) -> None:
    """Raises UsageError, which names the section and the field, if a value is invalid."""
    sections = [
        *((f"listen.{name}", one.check) for name, one in found.listen.items()),
        *((f"notify.{name}", one.check) for name, one in found.notify.items()),
        *((f"acknowledged[{number}]", one.check) for number, one in enumerate(found.acknowledged, 1)),
        *((f"owners.{name}", one.check) for name, one in found.owners.items()),
        ("profiles", found.profiles.check),
    ]
    for name, check in sections:
        try:
            check()
        except UsageError as error:
            raise UsageError(f"{origin}: {name}: {error}") from None
