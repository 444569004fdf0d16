"""The part of an image's config that states how a program is started from it (OCI image-spec, config.md)."""

import msgspec

from lazyfs.core.errors import FormatError
from lazyfs.core.foreign_text import check_text

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH where an image sets none; docker and podman use the same."""


class RunConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """The start parameters that a runtime takes from an image."""

    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None
    labels: dict[str, str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Name -> value; the last of equal names counts. Entries without a name or without `=` are left out,
        because no program can be given them."""
        pairs = (entry.partition("=") for entry in self.env or [])
        return {name: value for name, separator, value in pairs if name and separator}


class _Config(msgspec.Struct):
    config: RunConfig | None = None


_config = msgspec.json.Decoder(_Config)


def parse_run_config(data: bytes, origin: str) -> RunConfig:
    """Reads the start parameters from an image's config; `origin` names the config in errors.

    Raises FormatError for an invalid config, and for text that no program can be given (NUL and other control
    characters).
    """
    try:
        run = _config.decode(data).config or RunConfig()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{origin}: not an image configuration: {error}") from None
    for field, values in (("Env", run.env), ("Entrypoint", run.entrypoint), ("Cmd", run.cmd)):
        for number, value in enumerate(values or []):
            check_text(value, f"{origin}: {field}[{number}]")
    for name in run.environment:
        check_text(name, f"{origin}: the name of a variable in Env", lines=False)
    check_text(run.working_dir or "", f"{origin}: WorkingDir", lines=False)
    return run
