"""Text of strangers in messages for people: one line, no control characters, not too long."""


def printable(text: str, limit: int = 300) -> str:
    """The text on one line, cut to `limit` characters, with `?` for what is no printable character."""
    line = " ".join(text[: 4 * limit].split())
    shown = "".join(character if character.isprintable() else "?" for character in line)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
