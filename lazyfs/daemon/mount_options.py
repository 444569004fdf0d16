"""The options of a mount, derived from the fields of `Settings`, to be offered, parsed and described."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from lazyfs.daemon.settings import Settings


class MountOption(msgspec.Struct, frozen=True):
    """One option of `lazyfs mount`, of `mount -o` and of the TOML file."""

    field: str
    """The option's name in `Settings` and in TOML; elsewhere it has `-` in place of `_`."""
    kind: type
    """The type of the value: bool, str, int or float."""
    choices: tuple[str, ...]
    """The allowed values; empty if any text is allowed."""
    metavar: str
    help_text: str
    default: str
    """The default value, as shown to people."""
    also: str
    page: str
    environment: str
    """The environment variable that gives the value if the command line does not; empty if none does."""

    @property
    def name(self) -> str:
        """The name as typed on a command line, without the dashes in front."""
        return self.field.replace("_", "-")

    @property
    def value(self) -> str:
        """The text that stands for the value in the help, such as `SIZE` or `lru|sieve`; empty for a flag."""
        return "" if self.kind is bool else "|".join(self.choices) or self.metavar


def _read_fields() -> tuple[MountOption, ...]:
    found = []
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    annotations: dict[str, Any] = Settings.__annotations__
    for name, hint in annotations.items():
        if get_origin(hint) is not Annotated:
            continue  # the mount point and the repositories are arguments, not options
        inner, meta = get_args(hint)
        kind, choices = _value_of(inner)
        told = meta.extra["default"] or _shown(defaults[name])
        extra = meta.extra
        found.append(
            MountOption(
                name,
                kind,
                choices,
                extra["metavar"],
                meta.description,
                told,
                extra["also"],
                extra["page"],
                extra["environment"],
            )
        )
    return tuple(found)


def _value_of(hint: Any) -> tuple[type, tuple[str, ...]]:
    """Returns the type and the choices of a field: for `Literal["a", "b"] | None`, str and ("a", "b")."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not types.NoneType)
    if get_origin(hint) is Literal:
        return str, get_args(hint)
    return hint, ()


def _shown(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


MOUNT_OPTIONS = _read_fields()
"""All options, in the order in which they are shown."""


def table() -> str:
    """Returns the options as a table in Markdown, for docs/mounting.md."""
    rows = ["| option | meaning | default |", "|---|---|---|"]
    for option in MOUNT_OPTIONS:
        name = f"`--{option.name} {option.value}`".replace(" `", "`").replace("|", "\\|")
        page = f" [More]({option.page.removeprefix('mounting.md')})." if option.page else ""
        meaning = " ".join(filter(None, (option.help_text, option.also))).replace("|", "\\|")
        rows.append(f"| {name} | {meaning}{page} | {option.default} |")
    return "\n".join(rows) + "\n"
