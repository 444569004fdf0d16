"""The keeper of a mount: a small process that holds the device while daemons come and go.

It sleeps while the daemon lives. When the daemon is killed, the keeper starts a successor: at once the first
time, and after longer and longer pauses if successors die too. While no daemon answers (it is dead, or
stopped), the keeper reads the kernel's requests in its place (`unserved_requests.py`).
"""

import array
import os
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from typing import NoReturn

from lazyfs.daemon.survival.daemon_process import cannot_end
from lazyfs.daemon.survival.handed_state import KeptState, decode_kept
from lazyfs.daemon.survival.keeper_line import END, HOLD, NAME, SERVE
from lazyfs.daemon.survival.successor_process import prefer_the_daemon, started
from lazyfs.daemon.survival.unserved_requests import UnservedRequests
from lazyfs.fuse.device import is_connected
from lazyfs.fuse.direct.request_table import RequestTable, read_state
from lazyfs.system import clean_start, command_line

PAUSES = (0.0, 0.2, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before the first, second, ... successor is started while daemons die in a row. The last pause
repeats."""
SOON = 2.0
"""A daemon that served for so many seconds counts as healthy, and the pauses begin anew. A request that kills
every daemon takes less time to do it."""
HOPELESS = 6
"""If more daemons than this die in a row, every request gets EIO at once, until a successor serves."""
LOOK = 0.25
"""Seconds between looks for requests that are past the mount's patience."""
LOOK_AT_DAEMON = 2.0
"""Seconds between looks at a daemon that serves, for one that was killed and cannot end."""


class Keeper:
    """The keeper's process, which has one thread."""

    def __init__(self, line: socket.socket, daemon: int, score: str | None) -> None:
        """`line`: a socket to the daemon. `score`: the OOM score of successors (`prefer_the_daemon`)."""
        self._line = line
        self._score = score
        self._requests: UnservedRequests | None = None
        """The reader of the kernel's requests; None until a daemon has handed over the mount's
        descriptors."""
        self._state: KeptState | None = None
        """The state that the daemon which served last has handed over. It is used again if the successor of a
        `lazyfs reload` dies before it serves."""
        self._daemon = daemon
        self._watch = os.pidfd_open(daemon)
        self._ending: dict[int, int] = {}
        """The killed daemons that cannot end yet: process ids by the descriptors that become readable when
        they do."""
        self._began = time.monotonic()
        self._deaths = 0
        """The number of deaths in a row: 1 for the death of a daemon that served for SOON seconds, and one
        more for each daemon that died sooner."""
        self._restart_at: float | None = None
        self._stopped = False
        self._serving = True
        """False from a daemon's death until a successor serves."""
        self._unserved_since: float | None = None
        """The time since which no daemon answers; None while one does."""
        self._children, wake = socket.socketpair()
        self._children.setblocking(False)
        wake.setblocking(False)
        self._wake = wake  # kept open
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _, __: None)

    def run(self) -> None:
        """Holds the mount's descriptors, and starts successors, until the mount is over."""
        while True:
            for ready in self._wait():
                if ready == self._line.fileno():
                    if not self._hear():
                        return
                elif ready == self._children.fileno():
                    self._look_at_child()
                elif ready in self._ending:
                    self._bury(ready)
                elif ready == self._watch:
                    if not self._take_death():
                        return
                elif (unserved := self._unserved()) and not unserved.read():
                    return
            if self._watch >= 0 and cannot_end(self._daemon) and not self._take_death():
                return
            if unserved := self._unserved():
                unserved.refuse_late()
                self._start_due()

    def _unserved(self) -> UnservedRequests | None:
        """Returns the reader of the kernel's requests; None while a daemon answers them."""
        return self._requests if self._stopped or not self._serving else None

    def _wait(self) -> list[int]:
        poll = select.poll()
        for fd in (self._line.fileno(), self._children.fileno(), self._watch, *self._ending):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        timeout = LOOK_AT_DAEMON * 1000
        if unserved := self._unserved():
            poll.register(unserved.device, select.POLLIN)
            timeout = LOOK * 1000
            if self._restart_at is not None:
                timeout = min(timeout, max(self._restart_at - time.monotonic(), 0) * 1000)
        return [fd for fd, _ in poll.poll(timeout)]

    def _hear(self) -> bool:
        """Receives a message from the daemon. Returns False if the keeper is to end."""
        try:
            message, ancillary, _, _ = self._line.recvmsg(64, socket.CMSG_SPACE(8))
        except ConnectionResetError:  # the daemon died before it read SERVE; its own last messages follow
            return True
        if not message:  # the daemon is dying: its death is seen by itself
            self._line.close()
            return True
        if message == END:
            return False
        if message == HOLD:
            fds = array.array("i")
            for _, _, data in ancillary:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            self._take(*fds)
        return True

    def _take(self, device: int, table: int) -> None:
        if self._requests is not None:
            self._requests.close()
        self._state = decode_kept(read_state(table))
        self._requests = UnservedRequests(
            device,
            RequestTable(table, keeper=True),
            self._state.settings.patience,
            refuses_all=self._refuses_all,
        )
        self._serving = True
        self._unserved_since = None
        self._began = time.monotonic()
        self._restart_at = None
        self._tell_of_requests()

    def _refuses_all(self) -> bool:
        """Returns True if every request is to get EIO at once: daemons die again and again, or none has
        answered for the mount's patience. A call may need several requests, and would wait for each."""
        if self._deaths > HOPELESS:
            return True
        if self._state is None or self._unserved_since is None:
            return False
        if time.monotonic() - self._unserved_since <= self._state.settings.patience:
            return False
        with suppress(ChildProcessError):  # a request may come before the news that the daemon goes on
            news = os.WCONTINUED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._daemon, news) is None
        return True

    def _tell_of_requests(self) -> None:
        with suppress(OSError):
            self._line.send(SERVE, socket.MSG_DONTWAIT)

    def _look_at_child(self) -> None:
        """Notes whether the daemon is stopped."""
        with suppress(BlockingIOError):
            self._children.recv(4096)
        with suppress(ChildProcessError):
            options = os.WSTOPPED | os.WCONTINUED | os.WNOHANG
            while (found := os.waitid(os.P_PID, self._daemon, options)) is not None:
                self._stopped = found.si_code == os.CLD_STOPPED
                if not self._stopped:
                    self._unserved_since = None
                    self._tell_of_requests()
                    continue
                self._unserved_since = self._unserved_since or time.monotonic()
                if self._requests is not None:
                    self._requests.adopt_buffers()

    def _take_death(self) -> bool:
        """Plans a successor for a daemon that has died, or was killed and cannot end. Returns False if the
        keeper is to end."""
        self._ending[self._watch] = self._daemon
        if select.select([self._watch], [], [], 0)[0]:
            self._bury(self._watch)
        self._watch = -1
        # The last message may still be unread: an end, or the descriptors.
        while self._line.fileno() >= 0 and select.select([self._line], [], [], 0)[0]:
            if not self._hear():
                return False
        if self._requests is None or not is_connected(self._requests.device):
            return False  # never mounted, or unmounted meanwhile
        lived = time.monotonic() - self._began if self._serving else 0.0
        self._serving = self._stopped = False
        self._unserved_since = self._unserved_since or time.monotonic()
        self._deaths = 0 if lived >= SOON else self._deaths
        self._plan_successor(f"the daemon {self._daemon} has died after serving for {lived:.1f} s")
        self._requests.adopt_buffers()
        return True

    def _bury(self, watch: int) -> None:
        """Takes the exit status of a daemon that has ended. `watch`: the descriptor that told so; closed."""
        with suppress(ChildProcessError):
            os.waitpid(self._ending.pop(watch), 0)
        os.close(watch)

    def _plan_successor(self, why: str) -> None:
        """Counts one more death, and sets the time of the next successor's start. `why`: for the log."""
        self._deaths += 1
        pause = PAUSES[min(self._deaths, len(PAUSES)) - 1]
        self._restart_at = time.monotonic() + pause
        self._say(f"{why}; a successor starts in {pause:g} s")

    def _start_due(self) -> None:
        """Starts a successor if it is time."""
        if self._restart_at is None or time.monotonic() < self._restart_at:
            return
        assert self._requests is not None
        assert self._state is not None
        self._restart_at = None
        self._began = time.monotonic()
        try:
            self._line, self._daemon, self._watch = started(
                self._state.program, self._requests.descriptors, self._score
            )
        except OSError as error:  # the machine, or the user, has no room for another process now
            self._plan_successor(f"no successor could be started: {error.strerror}")

    def _say(self, text: str) -> None:
        with suppress(OSError):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            os.write(2, f"{stamp},000 WARNING lazyfs.daemon.survival.keeper: {text}\n".encode())


def run(line: socket.socket, daemon: int) -> NoReturn:
    """Becomes the keeper of a daemon (its process id). `line`: the socket to it. Logs to standard error."""
    status = 1
    try:
        os.setsid()
        # These are the daemon's: it ends the mount, and so this process.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        clean_start.close_descriptors([line.fileno()])
        score = prefer_the_daemon()
        _name_itself()
        Keeper(line, daemon, score).run()
        status = 0
    except Exception:  # noqa: BLE001 - the log is the only place for it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _name_itself() -> None:
    """Shows this process as `lazyfs-keeper` in `ps`. It was forked with the daemon's command line, so a
    search for the daemon by its name would otherwise find both processes."""
    with suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8") as file:
        file.write(NAME)
    with suppress(OSError):
        command_line.show_as(NAME)


def main(arguments: list[str]) -> NoReturn:
    """Becomes the keeper of a daemon whose keeper was killed. `arguments`: the descriptor of the socket to
    the daemon, and the daemon's id."""
    line, daemon = map(int, arguments)
    os.chdir("/")
    run(socket.socket(fileno=line), daemon)


def fork() -> socket.socket:
    """Forks: this process becomes the keeper. The child, the daemon, returns, with its socket to the keeper.

    Call it before there are threads.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon = os.fork()
    if not daemon:
        theirs.close()
        return ours
    run(theirs, daemon)


if __name__ == "__main__":
    main(sys.argv[1:])
