"""Small ELF files for tests: a header, one segment, a dynamic section and its strings."""

import struct
from collections.abc import Sequence


def library(
    needed: Sequence[bytes] = (),
    *,
    rpath: bytes = b"",
    runpath: bytes = b"",
    bits: int = 64,
    order: str = "<",
) -> bytes:
    """Returns a 32-bit or 64-bit ELF library that names the libraries `needed` as its dependencies."""
    strings = b"\0"
    tags: list[tuple[int, int]] = []
    for tag, texts in ((1, needed), (15, [rpath] if rpath else []), (29, [runpath] if runpath else [])):
        for text in texts:
            tags.append((tag, len(strings)))
            strings += text + b"\0"
    wide = bits == 64
    header, segment = (64, 56) if wide else (52, 32)
    at = header + 2 * segment
    tags += [(5, at), (0, 0)]
    dynamic = b"".join(struct.pack(order + ("qQ" if wide else "iI"), *tag) for tag in tags)
    end = at + len(strings) + len(dynamic)
    head = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + bytes(9)
    fields = (3, 62, 1, 0, header, 0, 0, header, segment, 2, 0, 0, 0)
    head += struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *fields)
    segments = b""
    for kind, offset, size in ((1, 0, end), (2, at + len(strings), len(dynamic))):
        if wide:
            segments += struct.pack(order + "IIQQQQQQ", kind, 5, offset, offset, offset, size, size, 8)
        else:
            segments += struct.pack(order + "IIIIIIII", kind, offset, offset, offset, size, size, 5, 4)
    return head + segments + strings + dynamic
