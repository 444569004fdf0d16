"""The keeper without a mount: on a machine that is out of processes, at a daemon's last moment, and when a
signal comes late."""

import array
import errno
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest

from lazyfs.daemon.survival import keeper
from lazyfs.daemon.survival.keeper_line import HOLD, SERVE
from lazyfs.daemon.survival.unserved_requests import UnservedRequests
from lazyfs.fuse.direct.request_table import RequestTable, keep_state
from tests.support.cachefill import Child
from tests.support.until import until


def keep(line: socket.socket, daemon: int, refused: int, ready: Callable[[], None]) -> None:
    """Is the keeper of a process, on a machine that refuses it the first `refused` processes."""
    left = iter(range(refused))
    fork = os.fork

    def full() -> int:
        if next(left, None) is not None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    ready()
    # the device is none of the kernel's
    with patch.object(os, "fork", full), patch.object(keeper, "is_connected", return_value=True):
        keeper.Keeper(line, daemon, None).run()


def hold(line: socket.socket, program: list[str]) -> socket.socket:
    """Sends the message by which a daemon hands its mount over. `program`: that of its successors. Returns
    the kernel's end of the device."""
    kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = RequestTable.make()
    keep_state(table, msgspec.json.encode({"program": program, "settings": {"patience": 30.0}}))
    rights = array.array("i", [device.fileno(), table]).tobytes()
    with device:
        line.sendmsg([HOLD], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    os.close(table)
    return kernel


@pytest.mark.parametrize("refused", [0, 1])
def test_a_keeper_that_gets_no_process_for_a_successor_asks_again(tmp_path: Path, refused: int) -> None:
    """Regression: a fork that failed ended the keeper, and with it the mount. It fails on a machine without
    memory, where daemons are killed too, and for a user whose jobs are as many processes as he may have."""
    started = tmp_path / "started"
    daemon = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = Child(functools.partial(keep, theirs, daemon.pid, refused))
    child.wait_until_ready()
    theirs.close()
    with hold(ours, ["/bin/sh", "-c", f"touch {started}"]):
        assert ours.recv(64) == SERVE, "it holds the mount"
        ours.close()
        daemon.kill()
        daemon.communicate()
        until(started.exists)
        child.kill()


def test_a_mount_that_is_handed_over_at_the_last_moment_is_held(tmp_path: Path) -> None:
    """Regression: a daemon that died with a message of the keeper unread was taken for one that had said
    nothing more, though it had handed over its mount."""
    started = tmp_path / "started"
    daemon = subprocess.Popen(["true"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.send(SERVE)
    with hold(ours, ["/bin/sh", "-c", f"touch {started}"]):
        ours.close()
        child = Child(functools.partial(keep, theirs, daemon.pid, 0))
        child.wait_until_ready()
        theirs.close()
        until(started.exists)
        child.kill()
    daemon.wait()


def test_a_signal_that_comes_late_leaves_no_timer_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the signal that ends a read of the device could come before the read began. The timer then
    went on, and its next signal ended the keeper wherever that was."""
    setitimer = signal.setitimer

    def slow(which: int, seconds: float, interval: float = 0.0) -> None:
        setitimer(which, seconds, interval)
        if seconds:
            time.sleep(10)  # until the signal: this process does not get the processor

    before = signal.getsignal(signal.SIGALRM)
    kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    unserved = UnservedRequests(device.detach(), RequestTable(RequestTable.make()), 30.0, lambda: False)
    monkeypatch.setattr(signal, "setitimer", slow)
    try:
        with kernel:
            assert unserved.read(), "the mount is there"
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        unserved.close()
