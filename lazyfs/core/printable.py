"""Makes strangers' text safe to show: no character acts on a terminal or hides its neighbours.

`str.isprintable` is the rule: controls (C0, C1, DEL), line and paragraph separators, directions of writing
(bidi), invisible characters and halves of surrogate pairs are not printable; letters of every script are.
"""


def printable(text: str, limit: int = 300) -> str:
    """Returns the text on one line, cut to `limit` characters, with `?` for each unprintable character."""
    line = " ".join(text[: 4 * limit].split())
    shown = "".join(character if character.isprintable() else "?" for character in line)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def escaped(text: str) -> str:
    r"""Returns the whole text on one line; characters that are not printable become \n, \t, \xNN, \uNNNN or
    \UNNNNNNNN.

    A byte of a name that is not UTF-8 (os.fsdecode gives U+DC80 to U+DCFF) is \xNN too.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def escaped_json(text: str) -> str:
    r"""Returns a JSON document with \uNNNN for each character of its strings that is not printable. Line
    feeds between values stay."""
    return "".join(
        character if character.isprintable() or character == "\n" else _json_escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return ascii(character)[1:-1]


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
