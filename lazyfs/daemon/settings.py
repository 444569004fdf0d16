"""What an operator sets for a mount, from the command line and a TOML file."""

import os
import tomllib
from typing import Any, Literal

import msgspec

from lazyfs.core.digits import MOST as LARGEST
from lazyfs.core.errors import UsageError

_TLS = ("ca", "client_cert", "client_key")
MOST = 1 << 20
"""Bytes of a file of settings."""
A_CENTURY = 3.2e9
"""Seconds. What waits that long waits for ever; clocks and calendars end soon after."""
NOBODY = (1 << 32) - 1
"""No user or group: the kernel's (uid_t)-1."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one repository is had and what it is trusted by."""

    url: str
    trust: str | None = None
    """Path of a root metadata file, or the fingerprint of one; needed at the first use only."""
    proxy: str | None = None
    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    """Files for TLS; where none of the three is given, the mount's own are used."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mount. Names as in the TOML file; the command line writes `-` for `_`."""

    mountpoint: str = ""
    source: str = ""
    """URL or store directory; empty where `repositories` are shown below the mount point."""
    repositories: dict[str, Place] = {}
    trust: str | None = None
    proxy: str | None = None
    ca: str | None = None
    """File of the CAs that are believed instead of the system's, for https origins and proxies."""
    client_cert: str | None = None
    client_key: str | None = None
    """Files that say who this node is, for servers and proxies that ask over TLS; PEM."""
    http: Literal["auto", "requests", "pycurl"] = "auto"
    """Which library makes the requests."""
    cache: str = ""
    cache_limit: str = "4G"
    lower: str | None = None
    """A pre-filled store directory that many nodes read: asked for objects before the network is."""
    cache_policy: Literal["lru", "sieve"] | None = None
    """What the cache evicts first; by default what it was last told, LRU in a new one."""
    cache_keep_free: str = "0"
    """Bytes of the cache's filesystem that stay free for others."""
    fuse: str = "auto"
    suid: bool = False
    dev: bool = False
    permissions: str | None = None
    """`image` or `open`; by default `image` for root and `open` for everybody else."""
    user: str | None = None
    """As root: who the daemon becomes after mounting."""
    log: str | None = None
    trace: str | None = None
    metrics: str | None = None
    """HOST:PORT of the Prometheus endpoint."""
    refresh: float = 240.0
    """Seconds between looks for a new revision."""
    patience: float = 30.0
    """Seconds a read waits for its bytes."""
    max_stale: float | None = None
    """Seconds past its expiry that a revision is still served; by default for ever."""
    on_outage: Literal["fail", "wait"] = "fail"
    uid: int | None = None
    gid: int | None = None
    """Show every file as this user's or group's, for runtimes without privileges."""

    def site(self) -> bool:
        """Whether many repositories are shown below the mount point."""
        return bool(self.repositories)


def load(path: str) -> dict[str, Any]:
    """The fields of a TOML file; raises UsageError naming file and fault."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from None
    return parse(data, f"--config {path}")


def parse(data: bytes, origin: str) -> dict[str, Any]:
    """The fields of a TOML text; raises UsageError naming `origin` and fault."""
    if len(data) > MOST:
        raise UsageError(f"{origin}: more than {MOST} bytes: that is no file of settings")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{origin}: byte {error.start} is not UTF-8, which TOML is written in") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; numbers of 4,300 digits; 1,000 brackets
        raise UsageError(f"{origin}: {error}") from None


def settings(fields: dict[str, Any], origin: str) -> Settings:
    """Checked settings; raises UsageError naming the field. `origin` says where the fields are from."""
    try:
        made = msgspec.convert(fields, Settings)
    except (msgspec.ValidationError, OverflowError) as error:
        raise UsageError(f"{origin}: {error}") from None
    _check_texts(msgspec.to_builtins(made), origin)
    _check_numbers(made, origin)
    for name, value, allowed in (
        ("fuse", made.fuse, ("auto", "direct", "pyfuse3")),
        ("permissions", made.permissions or "open", ("image", "open")),
    ):
        if value not in allowed:
            raise UsageError(f"{origin}: {name} is {value!r}, but must be one of {', '.join(allowed)}")
    if bool(made.source) == bool(made.repositories):
        raise UsageError(f"{origin}: give either one repository's URL or a file with [repositories]")
    for name in made.repositories:
        if not name or "/" in name or name in (".", ".."):
            raise UsageError(f"{origin}: repository {name!r} cannot be the name of a folder")
    size(made.cache_limit, "cache_limit")
    size(made.cache_keep_free, "cache_keep_free")
    return made


def _check_texts(fields: dict[str, Any], origin: str) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            _check_texts({f"{name}.{inner}": one for inner, one in value.items()}, origin)
        if "\0" in name or (isinstance(value, str) and "\0" in value):
            raise UsageError(f"{origin}: {name!r} holds a NUL byte, which no path, URL or name can have")


def _check_numbers(made: Settings, origin: str) -> None:
    for name, least in (("refresh", 0.01), ("patience", 0.01), ("max_stale", 0.0)):
        value = getattr(made, name)
        if value is not None and not least <= value <= A_CENTURY:  # not: NaN
            raise UsageError(f"{origin}: {name} is {value}, but must be {least:g} to {A_CENTURY:g} seconds")
    for name in ("uid", "gid"):
        value = getattr(made, name)
        if value is not None and not 0 <= value < NOBODY:
            raise UsageError(f"{origin}: {name} is {value}, but must be 0 to {NOBODY - 1}")


def from_here(made: Settings) -> Settings:
    """The same with absolute paths: the daemon works in /. Those of SSL_CERT_FILE and SSL_CERT_DIR too."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if os.environ.get(name):
            paths = filter(None, os.environ[name].split(os.pathsep))
            os.environ[name] = os.pathsep.join(map(os.path.abspath, paths))
    changes: dict[str, Any] = {
        name: os.path.abspath(value)
        for name in ("cache", "lower", "log", "trace", *_TLS)
        if (value := getattr(made, name))
    }
    if made.trust:
        changes["trust"] = _file(made.trust)
    if made.source and "://" not in made.source:
        changes["source"] = os.path.abspath(made.source)
    changes["repositories"] = {
        name: msgspec.structs.replace(
            place,
            url=place.url if "://" in place.url else os.path.abspath(place.url),
            trust=place.trust and _file(place.trust),
            **{name: os.path.abspath(value) for name in _TLS if (value := getattr(place, name))},
        )
        for name, place in made.repositories.items()
    }
    return msgspec.structs.replace(made, **changes)


def _file(trust: str) -> str:
    return os.path.abspath(trust) if os.path.exists(trust) else trust


def size(text: str, name: str) -> int:
    """Bytes of a size like `4G` or `500M` (powers of 1024); raises UsageError."""
    digits, unit = text.rstrip("KMGTkmgtiB"), text.lstrip("0123456789.").upper().rstrip("B").rstrip("I")
    try:
        found = int(float(digits) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"{name} {text[:100]!r} is no size: write it like 4G or 500M") from None
    if found >= LARGEST:
        raise UsageError(f"{name} {text[:100]!r} is more than any disk has: write it like 4G or 500M")
    return found


def default_cache() -> str:
    """/var/cache/lazyfs for root, lazyfs below XDG_CACHE_HOME or ~/.cache for others."""
    if os.geteuid() == 0:
        return "/var/cache/lazyfs"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lazyfs")
