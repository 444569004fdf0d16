"""The state that a daemon leaves to its successor, beside the kernel's requests."""

import json
from collections.abc import Sequence

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.daemon.control_socket import ListeningSocket
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.fuse.session import HeldMount
from lazyfs.system.own_python import PYTHON

FORMAT = 1
"""The version of this state. A successor accepts only its own version; otherwise the old daemon stays."""


class HandedState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one mount. It may contain passwords, so it lies in the request table, which is memory and
    no file with a name: only processes with its descriptor can read it."""

    format: int = FORMAT
    program: tuple[str, ...] = PYTHON
    """The start of the command line of a successor."""
    settings: Settings
    origins: dict[str, Origin]
    log: str | None
    """The file of the daemon's log; None if it writes to its caller's standard error."""
    device: str
    """The mount's device number, as in /proc/self/mountinfo."""
    journal: str
    """The file of the inode numbers that the kernel knows."""
    init: bytes
    """The answer to INIT that the kernel got when the mount was made."""
    answered: tuple[int, ...]
    """The opcodes that the daemon answers. The kernel never asks again for one that was refused."""
    cache: str = ""
    """The cache's directory; empty if the state is an older version's. The default depends on the user, and a
    successor may be another user's."""
    successions: int = 0
    """The number of times that another process, or another program, has taken the mount over."""

    def with_program(self, program: Sequence[str]) -> "HandedState":
        """Returns the state for a successor whose command line begins with `program`."""
        return msgspec.structs.replace(self, program=tuple(program))

    def with_settings(self, settings: Settings, origins: dict[str, Origin]) -> "HandedState":
        """Returns the state for a successor with other settings."""
        return msgspec.structs.replace(self, settings=settings, origins=origins)


class TakenMount(msgspec.Struct, frozen=True):
    """A mount that this process takes over."""

    held: HeldMount
    state: HandedState
    listening: ListeningSocket | None = None
    """The control socket; None if this process is to make one."""


class KeptState(msgspec.Struct, frozen=True):
    """The part of the state that a keeper needs. A keeper can read it from states of later versions too."""

    program: tuple[str, ...]
    settings: "KeptSettings"


class KeptSettings(msgspec.Struct, frozen=True):
    """The part of the settings that a keeper needs."""

    patience: float


class _Version(msgspec.Struct):
    format: int


def _fields(data: bytes) -> object:
    """Parses JSON and returns its value. Raises msgspec.ValidationError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise msgspec.ValidationError(str(error)) from None


def successor_command(program: Sequence[str], descriptors: Sequence[int]) -> list[str]:
    """Returns the command line of a successor. `descriptors`: those of the device, of the table of requests,
    and of the line to the keeper (-1: none)."""
    return [*program, "-m", "lazyfs.daemon.survival.successor", *map(str, descriptors), *program]


def encode(state: HandedState) -> bytes:
    """Returns the state as JSON. Names may hold any bytes: bytes that are not valid text are escaped."""
    return json.dumps(msgspec.to_builtins(state)).encode()


def decode_kept(data: bytes) -> KeptState:
    """Parses the keeper's part of a state in JSON. Raises msgspec.ValidationError."""
    return msgspec.convert(_fields(data), KeptState)


def decode(data: bytes) -> HandedState:
    """Parses a state in JSON. Raises UsageError for a state that this version does not understand."""
    try:
        fields = _fields(data)
        version = msgspec.convert(fields, _Version).format
        if version == FORMAT:
            return msgspec.convert(fields, HandedState)
    except msgspec.ValidationError as error:
        raise UsageError(f"the state of the mount cannot be read: {error}") from None
    raise UsageError(
        f"the state of the mount has format {version}, and this version of lazyfs takes {FORMAT}"
    )
