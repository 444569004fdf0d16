"""JSON as Go reads it, because most tools that write manifests and configs are Go programs: null is the same
as absent, and bytes that are not valid Unicode become U+FFFD."""

import re
from typing import Any, TypeVar

import msgspec

from lazyfs.core.errors import FormatError

T = TypeVar("T")

_ESCAPE = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""An escape in a string: a surrogate pair, half of one, or any other."""


def decode(data: bytes, name: str, what: str) -> Any:
    """Parses JSON and returns its value, without the fields that are null. Raises FormatError, whose message
    is `NAME: not WHAT: ...`."""
    try:
        try:
            return _without_nulls(msgspec.json.decode(data))
        except (UnicodeDecodeError, msgspec.DecodeError):
            return _without_nulls(msgspec.json.decode(_repaired(data)))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"{name}: not {what}: {error}") from None
    except RecursionError:
        raise FormatError(f"{name}: not {what}: JSON in JSON, too deep") from None


def convert(document: Any, kind: type[T], name: str, what: str) -> T:
    """Converts the value of a JSON document to a structure of type `kind`. Raises FormatError, which names
    the field."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.MsgspecError as error:
        raise FormatError(f"{name}: not {what}: {error}") from None


def _repaired(data: bytes) -> bytes:
    text = data.decode("utf-8", "replace").encode()
    return _ESCAPE.sub(lambda found: b"\\ufffd" if found[2] else found[0], text)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
