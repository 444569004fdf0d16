"""The state that a daemon takes over from an earlier daemon of its mount, and leaves to a later one."""

import logging
import os
from collections.abc import Mapping, Sequence

import msgspec

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.daemon.control_socket import ListeningSocket
from lazyfs.daemon.log import open_log
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.handed_state import HandedState, TakenMount, encode, successor_command
from lazyfs.daemon.survival.keeper_line import Holder
from lazyfs.fuse.direct.request_table import MOST_STATE, OVERFLOW_AT, RequestTable, keep_state, lasting_words
from lazyfs.fuse.session import HeldMount, Session
from lazyfs.system import mountpoint
from lazyfs.system.mount_table import Mount
from lazyfs.system.own_python import PYTHON
from lazyfs.vfs import journal
from lazyfs.vfs.journal_overflow import JournalOverflow
from lazyfs.vfs.journal_records import NO_NUMBERS, HeldNumbers

log = logging.getLogger(__name__)


class Handover:
    """The state that daemons of one mount hand to one another, as the present daemon has it."""

    def __init__(
        self,
        settings: Settings,
        origins: Mapping[str, Origin],
        log_file: str | None,
        keeper: Holder,
        cache: str,
        taken: TakenMount | None = None,
    ) -> None:
        """`cache`: the cache's directory. `taken`: the mount that this process has taken over; None for one
        that it makes itself."""
        self.keeper = keeper
        self.cache = cache
        self._settings = settings
        self._origins = origins
        self._log = log_file
        self._taken = taken
        self._state: HandedState | None = None
        self._held: HeldMount | None = None
        self.table = taken.held.table if taken else RequestTable.make()
        """The descriptor of the table of requests. A session that uses it closes it."""
        *self.given_out, overflow = lasting_words(self.table)
        """One word each for the slot, the shared file and the block of shown numbers given out last: memory
        that outlives the process."""
        self._overflow = JournalOverflow(os.dup(self.table), OVERFLOW_AT, overflow)

    @property
    def taken(self) -> HeldMount | None:
        """The mount that this process has taken over; None if this process has made its mount."""
        return self._taken.held if self._taken else None

    @property
    def listening(self) -> ListeningSocket | None:
        """The control socket that this process's earlier program has handed over, if there is one."""
        return self._taken.listening if self._taken else None

    @property
    def is_kept(self) -> bool:
        """True if a successor will come should this process die."""
        return self.keeper.holds and (self._taken is not None or self._held is not None)

    @property
    def successions(self) -> int:
        """The number of times that the mount has been taken over."""
        return self._taken.state.successions + 1 if self._taken else 0

    def journal(self, path: str) -> tuple[journal.Journal, HeldNumbers]:
        """Returns the mount's journal, and the inode numbers that the kernel knows. For a mount that was
        taken over, both come from the earlier daemon; a new mount begins a journal at `path`, and has no
        numbers. Raises OSError or Untrusted if the journal cannot be begun, UsageError if it cannot be read,
        or if it may be another mount's by now."""
        if self._taken is None:
            return journal.begin(path, self._overflow), NO_NUMBERS
        state = self._taken.state
        where = state.settings.mountpoint
        if state.device not in [mount.device for mount in mountpoint.mounts_on(where)]:
            raise UsageError(f"mount point {where}: this daemon's mount was taken away from there")
        try:
            return journal.resume(state.journal, self._overflow)
        except (OSError, LazyfsError) as error:
            raise UsageError(f"the inode numbers of the mount are lost: {error}") from None

    def serve(self, session: Session, mount: Mount, journal_path: str) -> None:
        """From now on a successor can take over the mount: stores the state for it, and hands the mount's
        descriptors to the keeper. If the mount of this session cannot be taken over, or the state is too
        long (settings of thousands of repositories), ends the keeper instead."""
        held = session.held()
        if held is None:
            self.keeper.end()
            return
        state = HandedState(
            settings=self._settings,
            origins=dict(self._origins),
            log=self._log,
            device=mount.device,
            journal=journal_path,
            init=held.init,
            answered=held.answered,
            cache=self.cache,
            successions=self.successions,
            program=self._taken.state.program if self._taken else PYTHON,
        )
        try:
            _keep(held, state)
        except ValueError as error:
            log.warning("nothing takes over this mount if its daemon is killed: %s", error)
            self.keeper.end()
            return
        self._held, self._state = held, state
        self.keeper.hold(held.device, held.table)

    def next_state(
        self, program: Sequence[str], settings: Settings, origins: Mapping[str, Origin]
    ) -> HandedState:
        """Returns the state for a successor with another program and other settings. Raises UsageError if
        there can be no successor, if the settings are too long, or if another log cannot be opened."""
        if self._state is None:
            raise UsageError("this session's mounts cannot be taken over: umount, and mount again")
        log_file = self._next_log(self._state, settings)
        state = msgspec.structs.replace(
            self._state, program=tuple(program), settings=settings, origins=dict(origins), log=log_file
        )
        size = len(encode(state))
        if size > MOST_STATE:
            raise UsageError(
                f"these settings take {size} bytes, and a mount can be taken over with {MOST_STATE} at most: "
                "name fewer repositories, or umount, and mount again"
            )
        return state

    def _next_log(self, state: HandedState, settings: Settings) -> str | None:
        if state.log is None and self.keeper.socket is None:
            return None  # in the foreground: its caller's standard error
        log_file = settings.log or os.devnull
        if log_file != state.log:
            os.close(open_log(log_file))
        return log_file

    def become(self, state: HandedState, listening: ListeningSocket) -> None:
        """Replaces this process by its successor, which goes on with the control socket. Never returns;
        raises OSError if the program cannot be started."""
        assert self._held is not None
        assert self._state is not None
        line = self.keeper.socket
        needed = [self._held.device, self._held.table, line.fileno() if line else -1]
        _keep(self._held, state)
        try:
            for fd in needed:
                if fd >= 0:
                    os.set_inheritable(fd, True)
            listening.hand_over()
            command = successor_command(state.program, needed)
            os.execv(command[0], command)  # noqa: S606
        except OSError:
            listening.keep()
            _keep(self._held, self._state)
            raise

    def renew_keeper(self) -> None:
        """Starts another keeper in place of one that was killed. Blocks. A failure is logged."""
        assert self._held is not None
        assert self._state is not None
        try:
            self.keeper.begin_anew(self._state.program)
        except OSError as error:
            log.warning("no keeper: %s", error)
            return
        self.keeper.hold(self._held.device, self._held.table)

    def end(self) -> None:
        """Ends the succession: the mount is over."""
        self.keeper.end()


def _keep(held: HeldMount, state: HandedState) -> None:
    keep_state(held.table, encode(state))
