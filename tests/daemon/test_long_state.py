"""A mount whose settings are too long for a successor is served, and its log says that none would come."""

import os
from collections.abc import Sequence
from typing import Any

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.handover import Handover
from lazyfs.fuse.direct.request_table import MOST_STATE, RequestTable, read_state
from lazyfs.fuse.session import HeldMount
from lazyfs.system.mount_table import Mount


class Keeper:
    """A keeper that notes what it is told."""

    socket = None
    holds = True

    def __init__(self) -> None:
        self.told: list[str] = []

    def hold(self, device: int, table: int) -> None:
        self.told.append("hold")

    def begin_anew(self, program: Sequence[str]) -> None:
        raise NotImplementedError

    def end(self) -> None:
        self.told.append("end")


class Session:
    """A session whose mount could be taken over."""

    def __init__(self, table: int) -> None:
        self._table = table

    def held(self) -> HeldMount:
        return HeldMount(-1, self._table, b"", ())


def long_origins() -> dict[str, Origin]:
    return {"source": Origin("file", "/etc/" + "x" * MOST_STATE)}


def served(origins: dict[str, Origin]) -> tuple[Handover, Keeper, int]:
    """Returns the handover of a mount that is served, its keeper, and the table of requests."""
    keeper, table = Keeper(), RequestTable.make()
    handover = Handover(Settings(mountpoint="/m"), origins, None, keeper, "/cache")
    session: Any = Session(table)
    handover.serve(session, Mount("0:50", "/m", "fuse.lazyfs", "lazyfs", ""), "/journal")
    return handover, keeper, table


def test_a_mount_whose_state_is_too_long_is_served_without_a_successor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handover, keeper, table = served(long_origins())
    assert keeper.told == ["end"]
    assert not handover.is_kept
    assert "nothing takes over this mount" in caplog.text
    assert read_state(table) == b""
    with pytest.raises(UsageError, match="cannot be taken over"):
        handover.next_state(["python"], Settings(mountpoint="/m"), {})
    os.close(table)


def test_settings_that_are_too_long_are_no_successors(caplog: pytest.LogCaptureFixture) -> None:
    handover, keeper, table = served({})
    assert (keeper.told, handover.is_kept) == (["hold"], True)
    state = read_state(table)
    assert state
    with pytest.raises(UsageError, match=r"these settings take \d+ bytes"):
        handover.next_state(["python"], Settings(mountpoint="/m"), long_origins())
    assert read_state(table) == state
    assert handover.next_state(["python"], Settings(mountpoint="/m"), {}).program == ("python",)
    assert not caplog.records
    os.close(table)
