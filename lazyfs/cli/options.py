"""The options of a command as data, and a quick reader for them that makes the start of a program faster.

Click makes its own options from the same data (`click_options`), but importing click would cost each job 20
ms. So the quick reader handles the command lines that are certainly correct. It leaves the other command
lines to click: those with abbreviations, mistakes or --help.
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
    kind: type[str | int | float] = str
    """The type of the value."""
    least: int | None = None
    """The smallest value of an option whose kind is int; None if there is none."""


def read_quickly(options: Sequence[Option], words: Sequence[str]) -> tuple[list[str], dict[str, Any]] | None:
    """Returns (the arguments, the values of the options by name); None for a command line that is not
    certainly correct.

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
            if option.is_flag:
                given: Any = True
            else:
                following = value if separator else next(rest, None)
                given = _value(option, following, with_sign=bool(separator))
                if given is None:
                    return None
            values[option.name] = (*values[option.name], given) if option.multiple else given
    return arguments, values


def _nothing(option: Option) -> Any:
    if option.is_flag:
        return False
    return () if option.multiple else option.default


def _value(option: Option, text: str | None, *, with_sign: bool) -> str | int | float | None:
    """Returns the value of the text that follows an option; None if click might refuse it. `with_sign`: True
    if the text follows `=`; it may then begin with a dash."""
    if text is None or (text.startswith("-") and not with_sign):
        return None
    if option.choices and text not in option.choices:
        return None
    try:
        value = option.kind(text)
    except ValueError:
        return None
    if isinstance(value, int) and option.least is not None and value < option.least:
        return None
    return value
