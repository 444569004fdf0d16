"""Fields of a tar header: text and numbers."""

from lazyfs.core.errors import FormatError


def string(field: bytes) -> bytes:
    """Returns the text before the first NUL."""
    return field.split(b"\0", 1)[0]


def number(field: bytes, what: str, first: bool = False) -> int:
    """Returns the number that a field holds: in octal digits, or, if its top bit is set, in base 256, which
    GNU tar uses for larger numbers.

    `what` names the field in errors. `first`: the field is the archive's first, so that a wrong one means
    that this is no tar archive. Raises FormatError.
    """
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if value.bit_length() > 63:
            raise FormatError(f"tar header: {what} does not fit 63 bits")
        return value
    text = field.strip(b" \0").split(b"\0", 1)[0]
    if not text.strip(b"01234567"):
        return int(text, 8) if text else 0  # a field has 12 digits at most
    if first:
        raise FormatError("not a tar archive: it begins with something else than a tar header")
    raise FormatError(f"tar header: {what} is {field!r}, not an octal number")
