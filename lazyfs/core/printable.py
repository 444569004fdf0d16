"""Makes text of strangers fit for messages: one line, no control characters, limited length."""


def printable(text: str, limit: int = 300) -> str:
    """The text on one line, cut to `limit` characters, with `?` for each unprintable character."""
    line = " ".join(text[: 4 * limit].split())
    shown = "".join(character if character.isprintable() else "?" for character in line)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
