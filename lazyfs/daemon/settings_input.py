"""Parses and checks the settings that an operator wrote in a TOML file and on a command line."""

import os
from typing import Any

import msgspec

from lazyfs.core.byte_size import parse_size, shown_size
from lazyfs.core.errors import UsageError
from lazyfs.daemon.mount_options import MOUNT_OPTIONS
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.values_from_files import read_values

LARGEST_FILE = 1 << 20
"""The largest number of bytes in a settings file."""
CENTURY = 3.2e9
"""The longest time that a setting may state, in seconds. Longer times would exceed the range of clocks and
calendars, and no wait needs them."""
LEAST_MEMORY = 100 << 20
"""The smallest memory limit, in bytes: a daemon needs 45 MiB for itself, and as much for objects on their
way."""
LONGEST_START = 3600
LARGEST_SHARE = 90
"""The largest share of the network line, in percent, that a setting may give to fetching ahead."""
NOBODY = (1 << 32) - 1
"""The id that stands for no user or group: the kernel's (uid_t)-1."""
_TLS = ("ca", "client_cert", "client_key")


def load(path: str) -> dict[str, Any]:
    """Returns the fields of a TOML file. Raises UsageError, which names the file and the fault."""
    return parse(read_file(path), f"--config {path}")


def read_file(path: str) -> bytes:
    """Returns the content of a TOML file; `parse` refuses one that is too large. Raises UsageError."""
    from lazyfs.system import bounded_file  # few mounts have a file of settings

    try:
        return bounded_file.read_file(path, LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from None


def parse(data: bytes, origin: str) -> dict[str, Any]:
    """Returns the fields of a TOML text. `origin`: the text's name in errors, such as `--config FILE`. Raises
    UsageError."""
    import tomllib  # imported only here: it takes 2 ms, and mounts without a file of settings do without

    if len(data) > LARGEST_FILE:
        raise UsageError(f"{origin}: more than {LARGEST_FILE} bytes: that is no file of settings")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{origin}: byte {error.start} is not UTF-8, which TOML is written in") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; numbers of 4,300 digits; 1,000 brackets
        raise UsageError(f"{origin}: {error}") from None


def _check_written(made: Settings) -> None:
    """Checks revisions and sizes, which are texts with a notation of their own. Raises UsageError, which
    names the field."""
    for revision in (made.revision, *(source.revision for source in made.repositories.values())):
        if revision is not None:
            from lazyfs.core.history.choice import parse_choice  # most mounts show the newest revision

            parse_choice(revision)
    parse_size(made.cache_limit, "cache_limit")
    parse_size(made.cache_keep_free, "cache_keep_free")
    if parse_size(made.memory_limit, "memory_limit") < LEAST_MEMORY:
        raise UsageError(
            f"memory_limit is {made.memory_limit}, but a daemon needs at least {shown_size(LEAST_MEMORY)}"
        )


def check(fields: dict[str, Any], origin: str) -> Settings:
    """Returns checked settings. `origin`: the fields' origin in errors, such as `--config FILE`. Raises
    UsageError, which names the wrong field."""
    for option in MOUNT_OPTIONS:
        value = fields.get(option.field)
        if option.choices and isinstance(value, str) and value not in option.choices:
            raise UsageError(
                f"{origin}: {option.field} is {value!r}, but must be one of {', '.join(option.choices)}"
            )
    try:
        made = msgspec.convert(read_values(fields), Settings)
    except (msgspec.ValidationError, OverflowError) as error:
        from lazyfs.core.field_faults import shown_fault  # a mount without mistakes does without

        raise UsageError(f"{origin}: {shown_fault(error, Settings)}") from None
    _check_texts(msgspec.to_builtins(made), origin)
    _check_numbers(made, origin)
    if made.inode32 and made.fuse == "pyfuse3":
        raise UsageError(
            f"{origin}: inode32 needs the direct session: with pyfuse3, programs see the numbers that the "
            f"kernel asks by; leave one of them out"
        )
    if bool(made.source) == bool(made.repositories):
        raise UsageError(f"{origin}: give either one repository's URL or a file with [repositories]")
    for name in made.repositories:
        if not name or "/" in name or name in (".", ".."):
            raise UsageError(f"{origin}: repository {name!r} cannot be the name of a folder")
    try:
        _check_written(made)
    except UsageError as error:
        raise UsageError(f"{origin}: {error}") from None
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
        if value is not None and not least <= value <= CENTURY:  # `not`: for NaN too
            raise UsageError(f"{origin}: {name} is {value}, but must be {least:g} to {CENTURY:g} seconds")
    if made.profile is not None and not 1 <= made.profile.seconds <= LONGEST_START:
        raise UsageError(
            f"{origin}: profile.seconds is {made.profile.seconds}, but must be 1 to {LONGEST_START} seconds"
        )
    if not 1 <= made.prefetch_share <= LARGEST_SHARE:
        raise UsageError(
            f"{origin}: prefetch_share is {made.prefetch_share}, but must be 1 to {LARGEST_SHARE} percent: "
            "the rest of the line is for readers"
        )
    for name in ("uid", "gid"):
        value = getattr(made, name)
        if value is not None and not 0 <= value < NOBODY:
            raise UsageError(f"{origin}: {name} is {value}, but must be 0 to {NOBODY - 1}")


def with_absolute_paths(made: Settings) -> Settings:
    """Returns the settings with absolute paths, for a daemon whose working directory is /. Also replaces
    relative paths in the environment variables SSL_CERT_FILE and SSL_CERT_DIR by absolute ones."""
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
            source,
            url=source.url if "://" in source.url else os.path.abspath(source.url),
            trust=source.trust and _file(source.trust),
            **{name: os.path.abspath(value) for name in _TLS if (value := getattr(source, name))},
        )
        for name, source in made.repositories.items()
    }
    if made.profile is not None:
        files = {name: getattr(made.profile, name) for name in ("token_file", *_TLS)}
        absolute = {name: os.path.abspath(path) for name, path in files.items() if path}
        changes["profile"] = msgspec.structs.replace(made.profile, **absolute)
    return msgspec.structs.replace(made, **changes)


def _file(trust: str) -> str:
    return os.path.abspath(trust) if os.path.exists(trust) else trust
