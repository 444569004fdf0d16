"""The variables of a program, handed over by an open descriptor.

In the environment of `lazyfs run` they would be lazyfs's own too (PYTHONHOME, LD_PRELOAD), and in its command
line every user of the machine could read them. The form is that of /proc/PID/environ: NAME=VALUE, each ended
by a NUL.
"""

import os
from collections.abc import Mapping
from typing import Final

from lazyfs.core.errors import UsageError

_MOST: Final = 8 << 20
"""The largest number of bytes that is read: Linux hands a program 6 MiB at most."""


def encode(variables: Mapping[str, str]) -> bytes:
    """Returns the bytes for the descriptor. Raises UsageError; no value is in its message."""
    entries = []
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name:
            raise UsageError(f"{name!a} cannot be the name of a variable")
        if "\0" in value:
            raise UsageError(f"variable {name!a}: its value has a NUL in it")
        try:
            entries.append(os.fsencode(f"{name}={value}\0"))
        except UnicodeEncodeError:
            raise UsageError(f"variable {name!a}: it cannot be handed to a program") from None
    return b"".join(entries)


def read(descriptor: int) -> dict[str, str]:
    """Reads variables to the descriptor's end. Raises UsageError; no value is in its message."""
    meant_by = f"--env-fd {descriptor}"
    data = bytearray()
    try:
        while part := os.read(descriptor, 1 << 16):
            data += part
            if len(data) > _MOST:
                raise UsageError(f"{meant_by}: has more than {_MOST} bytes")
    except OSError as error:
        raise UsageError(f"{meant_by}: {error.strerror}") from None
    except OverflowError:
        raise UsageError(f"{meant_by}: no descriptor has this number") from None
    variables = {}
    entries = os.fsdecode(bytes(data)).removesuffix("\0").split("\0") if data else []
    for number, entry in enumerate(entries, 1):
        name, separator, value = entry.partition("=")
        if not name or not separator:
            raise UsageError(f"{meant_by}: entry {number} is not NAME=VALUE; each ends with a NUL (env -0)")
        variables[name] = value
    return variables
