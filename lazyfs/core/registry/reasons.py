"""The reason that a registry or its token server states for a refusal, in a form fit to be shown."""

from typing import Any

import msgspec

from lazyfs.core.printable import printable

MAX_BODY = 1 << 16
"""The largest number of bytes of an error's body that are read."""
_SHOWN = 300
_UNKNOWN = ("MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND")


def reason_of(body: bytes) -> str:
    """Returns the reason in an error's body, on one line of at most 300 printable characters; empty if it
    gives none.

    Reads the distribution API's `errors` (code, message, detail), and the other fields that token servers
    use: `details`, `error_description`, `message`, `error`. HTML pages give no reason.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        return "" if text.startswith(("<", "{", "[")) or len(text) > _SHOWN else printable(text)
    return printable("; ".join(filter(None, _reasons(document))))


def says_unknown(body: bytes) -> bool:
    """Returns True if every error in the body is the distribution API's code (or Harbor's) for a name that
    the registry does not know. A page of a proxy in between is no such body."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list) or not errors:
        return False
    return all(isinstance(error, dict) and error.get("code") in _UNKNOWN for error in errors)


def _reasons(document: Any) -> list[str]:
    if not isinstance(document, dict):
        return []
    errors = document.get("errors")
    if isinstance(errors, list):
        return [_one(error) for error in errors[:3]]
    for key in ("details", "error_description", "message", "error"):
        if isinstance(document.get(key), str):
            return [document[key]]
    return []


def _one(error: Any) -> str:
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    code, message = error.get("code"), error.get("message")
    detail = error.get("detail")
    parts = [part for part in (message, detail) if isinstance(part, str) and part]
    text = ": ".join(dict.fromkeys(parts))
    return text or (code if isinstance(code, str) else "")
