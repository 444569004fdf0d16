"""systemd's descriptor store (sd_notify(3), FDSTORE=1) in the place of a keeper.

The service manager holds the mount's descriptors while the unit's process is dead, and hands them to the
process that Restart= starts. Unlike a keeper, the store reads no requests: `df` waits until the new daemon
serves.
"""

import array
import os
import socket
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.handed_state import TakenMount, decode
from lazyfs.daemon.survival.renewed_settings import check_live
from lazyfs.fuse import device
from lazyfs.fuse.direct.request_table import read_state
from lazyfs.fuse.session import HeldMount

_FIRST = 3
"""The first descriptor that is handed over (sd_listen_fds(3))."""
_DEVICE, _TABLE = "lazyfs-device", "lazyfs-table"


class DescriptorStore:
    """The descriptor store that systemd has for this process's unit. Implements `Holder`."""

    def __init__(self, address: str) -> None:
        """`address`: the value of NOTIFY_SOCKET."""
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def socket(self) -> None:
        """Returns None: the descriptor store sends no messages."""

    @property
    def holds(self) -> bool:
        """True: the service manager always holds the descriptors."""
        return True

    def hold(self, device: int, table: int) -> None:
        """Hands the mount's descriptors to the store, which drops earlier ones."""
        for name, fd in ((_DEVICE, device), (_TABLE, table)):
            self.tell(f"FDSTOREREMOVE=1\nFDNAME={name}")
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())
            self.tell(f"FDSTORE=1\nFDNAME={name}", [rights])

    def end(self) -> None:
        """Takes the descriptors out of the store: the mount is over."""
        for name in (_DEVICE, _TABLE):
            self.tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def begin_anew(self, _: object) -> None:
        """Does nothing: the store is a part of the service manager, so a daemon cannot start it again."""

    def tell(self, message: str, ancillary: list[tuple[int, int, bytes]] | None = None) -> None:
        """Sends a message to the service manager."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendmsg([message.encode()], ancillary or [], 0, self._address)


class _Stored(NamedTuple):
    device: int
    table: int


def _stored() -> _Stored | None:
    """Returns the descriptors that the service manager has handed to this process; None if it has handed over
    none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = {name: number for number, name in enumerate(names, _FIRST)}
    if _DEVICE not in found or _TABLE not in found:
        return None
    stored = _Stored(found[_DEVICE], found[_TABLE])
    for fd in stored:
        os.set_inheritable(fd, False)
    return stored


def taken_mount(settings: Settings, origins: dict[str, Origin]) -> TakenMount | None:
    """Returns the mount of the unit's last process, to be served with the present settings.

    Returns None if there is no such mount, or if it is gone. Returns None, too, if this version or the
    present settings cannot serve it: the old mount is then ended, and a new one must be made.
    """
    stored = _stored()
    if stored is None:
        return None
    try:
        if device.is_connected(stored.device):
            state = decode(read_state(stored.table))
            check_live(state.settings, settings)
            held = HeldMount(stored.device, stored.table, state.init, state.answered)
            return TakenMount(held, state.with_settings(settings, origins))
    except UsageError:
        pass  # an older version, or other settings: a mount of its own
    os.close(stored.device)  # the last descriptor: the kernel ends the connection
    os.close(stored.table)
    return None
