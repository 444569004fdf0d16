"""The options of a command as data, and a quick reader of them for the start of a program.

Click makes its own options of the same data (`click_options`), but importing click takes 20 ms, and each job
would wait for them. So the quick reader takes the command lines that are surely right, and leaves every other
one to click: abbreviations, mistakes, --help.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Option(NamedTuple):
    """One option of a command."""

    flags: tuple[str, ...]
    """All spellings, such as `-B` and `--bind`."""
    name: str
    """The name of the value for the command's function."""
    help: str
    metavar: str | None = None
    multiple: bool = False
    """True if it may be given several times; the value is a tuple then."""
    is_flag: bool = False
    """True if it takes no value; the value is a bool then."""
    choices: tuple[str, ...] = ()
    """The values that are allowed; empty if all are."""
    default: str | None = None
    least: int | None = None
    """The least value, if it is a whole number; the value is an int then."""


def read_quickly(options: Sequence[Option], words: Sequence[str]) -> tuple[list[str], dict[str, Any]] | None:
    """Returns the arguments and the options' values; None for a command line that is not surely right.

    As click does it: options may stand between arguments, and after `--` there are only arguments.
    """
    by_flag = {flag: option for option in options for flag in option.flags}
    values: dict[str, Any] = {option.name: _nothing(option) for option in options}
    arguments: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            arguments += rest
        elif not word.startswith("-"):
            arguments.append(word)
        else:
            flag, separator, value = word.partition("=") if word.startswith("--") else (word, "", "")
            option = by_flag.get(flag)
            if option is None or (option.is_flag and separator):
                return None
            given: Any = True if option.is_flag else value if separator else next(rest, None)
            if given is None or not _is_allowed(option, given, with_sign=bool(separator)):
                return None
            if option.least is not None:
                given = int(given)
            values[option.name] = (*values[option.name], given) if option.multiple else given
    return arguments, values


def _nothing(option: Option) -> Any:
    if option.is_flag:
        return False
    return () if option.multiple else option.default


def _is_allowed(option: Option, value: str | bool, *, with_sign: bool) -> bool:
    """Returns True if the value is one that click takes as it is. `with_sign`: it follows `=`, so that it may
    begin with a dash."""
    if isinstance(value, bool):
        return True
    if option.least is not None:
        return value.isascii() and value.isdecimal() and len(value) < 19 and int(value) >= option.least
    return (with_sign or not value.startswith("-")) and (not option.choices or value in option.choices)
