"""Warnings for the operator about an image that is published all the same."""

from collections.abc import Iterator
from datetime import UTC, datetime

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.foreign_text import check_text
from lazyfs.core.oci.container_config import RunConfig
from lazyfs.core.oci.manifest import Config, Platform
from lazyfs.core.oci.platform import runs

MAX_ARGUMENT = (1 << 17) - 1
"""The largest number of bytes of one argument or variable that Linux hands to a program (MAX_ARG_STRLEN)."""


def remarks(config: Config) -> Iterator[str]:
    """Yields the warnings about an image's config, one line each."""
    stated, kept = config.created_stated_ns, config.created_ns
    if stated != kept:
        shown = datetime.fromtimestamp(kept / 1e9, UTC).date()
        yield f"created {config.created!a} cannot be kept in 64 bits of nanoseconds: {shown} stands for it"
    run = config.config or RunConfig()
    for field, values in (("Env", run.env), ("Entrypoint", run.entrypoint), ("Cmd", run.cmd)):
        for number, value in enumerate(values or []):
            where = f"{field}[{number}]"
            if (size := len(value.encode("utf-8", "surrogateescape"))) > MAX_ARGUMENT:
                yield f"{where} has {size} bytes: Linux hands at most {MAX_ARGUMENT} to a program"
                continue
            try:
                check_text(value, where)
            except FormatError as error:
                yield f"{error} (`lazyfs run` will not start it)"


def check_platform(
    config: Config, wanted: Platform, *, asked: bool, listed: bool, name: str
) -> Iterator[str]:
    """Yields a warning if the image is for another platform than wanted.

    `asked`: the operator named the platform. `listed`: an index names this image for the platform; this
    counts more than the config, because many builds get the config wrong. Raises UsageError for a mismatch
    with a platform that the operator named: every node that starts the image would fail.
    """
    found = config.platform
    if runs(found, wanted):
        return
    if asked and not listed:
        raise UsageError(
            f"{name} is for {found}, and --platform asks for {wanted}: publish it with --platform {found} "
            "if that is meant"
        )
    if listed:
        yield f"the index says {wanted}, the image's own config says {found}"
    else:
        yield f"it is for {found}, not for this machine's {wanted}: name the right platform with --platform"
