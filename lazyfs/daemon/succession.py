"""The work of a serving daemon for its succession: it listens to its keeper, and hands its mount over to a
successor."""

import logging
import subprocess
from typing import Any

import msgspec
import trio

from lazyfs.core.errors import UsageError
from lazyfs.daemon.answering_mount import AnsweringMount
from lazyfs.daemon.control import Handler
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.handed_state import HandedState, encode
from lazyfs.daemon.survival.keeper_line import SERVE
from lazyfs.daemon.survival.renewed_settings import check_live

CHECK_SECONDS = 60.0
"""Timeout of the check that a successor can take the mount, in seconds."""
MEND = 5.0
"""Seconds between two looks whether the journal's file lacks records, because its disk had failed."""
ANSWERED = 0.1
"""Seconds between the answer to `lazyfs reload` and the replacement of this process: time to send the
answer."""
KEEPERS = 60.0
"""Seconds after the start of another keeper until the next one may be started, in case something kills
keepers again and again."""

log = logging.getLogger(__name__)


class Succession:
    """The tasks of one mount's daemon that concern its keeper and its successor. Belongs to one trio run."""

    def __init__(self, mount: AnsweringMount, nursery: trio.Nursery) -> None:
        self._mount = mount
        self._nursery = nursery

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers of the control socket's requests."""
        return {"reload": self._reload}

    async def keep_journal(self) -> None:
        """Completes the journal's file once its disk works again."""
        while True:
            await trio.sleep(MEND)
            if self._mount.journal.broken:
                log.warning("inode numbers are not written down: %s", self._mount.journal.broken)
                await trio.to_thread.run_sync(self._mend)

    def _mend(self) -> None:
        with self._mount.filesystem.lock:
            self._mount.journal.mend()

    async def follow_keeper(self) -> None:
        """Serves the requests that the keeper has read, and starts another keeper if it is killed."""
        keeper, session = self._mount.handover.keeper, self._mount.session
        assert session is not None
        while keeper.socket is not None:
            line = keeper.socket
            line.setblocking(False)
            await trio.lowlevel.wait_readable(line)
            try:
                message = line.recv(64)
            except ConnectionResetError:
                message = b""
            if message == SERVE:
                await trio.to_thread.run_sync(session.serve_kept)
            elif not message:
                log.warning("the keeper of this mount was killed; another one starts")
                await trio.to_thread.run_sync(self._mount.handover.renew_keeper)
                await trio.sleep(KEEPERS)

    async def _reload(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            program = msgspec.convert(request.get("program"), tuple[str, ...])
            settings = msgspec.convert(request.get("settings"), Settings)
            origins = msgspec.convert(request.get("origins"), dict[str, Origin])
        except msgspec.ValidationError as error:
            raise UsageError(f"lazyfs reload is of another version: {error}") from None
        if not program:
            raise UsageError("no program to become")
        check_live(self._mount.settings, settings)
        state = self._mount.handover.next_state(program, settings, origins)
        await _check(state)
        if self._mount.journal.is_lossy:
            raise UsageError(
                "the old daemon stays: the inode numbers in use cannot be written down for the new one: "
                f"{self._mount.journal.broken}; make room on that disk, or mend it"
            )
        self._nursery.start_soon(self._become, state)
        return {}

    async def _become(self, state: HandedState) -> None:
        await trio.sleep(ANSWERED)
        filesystem = self._mount.filesystem
        log.info("giving the mount to %s", " ".join(state.program))
        listening = self._mount.listening
        assert listening is not None
        with filesystem.lock:  # no number is given out or taken back from here on
            if not self._mount.journal.hand_over(filesystem.tree.lookups()):
                log.error("the mount stays with this process: %s", self._mount.journal.broken)
                return
            try:
                self._mount.handover.become(state, listening)
            except OSError:
                self._mount.journal.go_on()
                log.exception("the mount stays with this process: %s", state.program[0])


async def _check(state: HandedState) -> None:
    """Raises UsageError unless the successor can take the mount."""
    command = [*state.program, "-m", "lazyfs.daemon.survival.successor", "--check"]
    said = b""
    try:
        with trio.fail_after(CHECK_SECONDS):
            done = await trio.run_process(
                command, stdin=encode(state), stdout=subprocess.DEVNULL, capture_stderr=True, check=False
            )
            said = done.stderr
            if done.returncode == 0:
                return
    except trio.TooSlowError:
        said = f"no answer in {CHECK_SECONDS:g} s".encode()
    except OSError as error:
        said = str(error).encode()
    reason = said.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("lazyfs: ")
    raise UsageError(f"the old daemon stays: {reason or 'the new one fails'}")
