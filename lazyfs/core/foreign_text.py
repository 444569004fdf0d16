"""Checks of text from an image or a store before it becomes an argument, a variable or a path of a
process."""

import re
import unicodedata

from lazyfs.core.errors import FormatError

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CONTROLS_AND_LINES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONE_SURROGATE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates, which no encoding can write, except U+DC80 to U+DCFF: with these os.fsdecode shows bytes that
are not UTF-8."""
_SHOWN = 60


def check_text(text: str, where: str, *, lines: bool = True) -> str:
    """Returns the text. Raises FormatError, whose message begins with `where`, for a control character.

    A NUL would end an argument, and the text behind it would become another argument. `lines` allows tabs,
    line feeds and carriage returns: shell scripts in a command and functions in the environment have them,
    names and paths do not.
    """
    found = (_CONTROLS if lines else _CONTROLS_AND_LINES).search(text)
    if found:
        name = unicodedata.name(found[0], "a control character")
        raise FormatError(
            f"{where}: {_short(text, found.start())} has {name} U+{ord(found[0]):04X} in it, and control "
            "characters are not handed to programs; correct the image"
        )
    found = _LONE_SURROGATE.search(text)
    if found:
        raise FormatError(
            f"{where}: {_short(text, found.start())} is no Unicode text (half of a surrogate pair); "
            "correct the image"
        )
    return text


def _short(text: str, position: int) -> str:
    """Returns the text around a position, escaped."""
    start = max(0, position - _SHOWN // 2)
    return ascii(text[start : start + _SHOWN])
