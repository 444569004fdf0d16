"""The options of a command as data, and a quick reader for them that makes the start of a program faster.

Click makes its own options from the same data (`click_options`), but importing click would cost each job 20
ms. So the quick reader handles the command lines that are certainly correct, and leaves all others to click:
abbreviations, mistakes, --help.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Option(NamedTuple):
    """One option of a command."""

    flags: tuple[str, ...]
    """All spellings, such as `-B` and `--bind`."""
    name: str
    """The name of the function's argument that gets the value."""
    help: str
    metavar: str | None = None
    multiple: bool = False
    """True if the option may be given several times; its value is then a tuple."""
    is_flag: bool = False
    """True if the option takes no value; its value is then a bool."""
    choices: tuple[str, ...] = ()
    """The values that are allowed; empty if all are."""
    default: str | None = None
    least: int | None = None
    """The least value of an option for whole numbers, whose value is an int; None for other options."""


def read_quickly(options: Sequence[Option], words: Sequence[str]) -> tuple[list[str], dict[str, Any]] | None:
    """Returns (arguments, option name -> value); None for a command line that is not certainly correct.

    As in click, options may stand between arguments, and all words after `--` are arguments.
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
    """Returns True if click would accept this value too. `with_sign`: True if the value follows `=`; it may
    then begin with a dash."""
    if isinstance(value, bool):
        return True
    if option.least is not None:
        return value.isascii() and value.isdecimal() and len(value) < 19 and int(value) >= option.least
    return (with_sign or not value.startswith("-")) and (not option.choices or value in option.choices)
