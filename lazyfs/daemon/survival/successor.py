"""`python -m lazyfs.daemon.survival.successor`: takes a mount over from a daemon that is gone.

successor DEVICE TABLE LINE PROGRAM...   serve the mount. DEVICE, TABLE and LINE are inherited descriptors:
                                         of /dev/fuse, of the table of requests, and of the line to the
                                         keeper (-1: no keeper). PROGRAM is the start of this command line
successor --check                        read a state from stdin. The exit code is 0 if this version can take
                                         its mount over; otherwise a line on stderr has the reason
"""

import gc
import os
import socket
import sys
from collections.abc import Sequence

gc.disable()  # as in lazyfs.__main__
from lazyfs.core.errors import LazyfsError, UsageError  # noqa: E402
from lazyfs.core.printable import escaped  # noqa: E402
from lazyfs.daemon import process  # noqa: E402
from lazyfs.daemon.control_socket import handed_over  # noqa: E402
from lazyfs.daemon.log import DaemonLog, open_log  # noqa: E402
from lazyfs.daemon.survival.descriptor_store import DescriptorStore  # noqa: E402
from lazyfs.daemon.survival.handed_state import HandedState, TakenMount, decode  # noqa: E402
from lazyfs.daemon.survival.keeper_line import Holder, KeeperLine  # noqa: E402
from lazyfs.fuse.direct.operations import check_promises  # noqa: E402
from lazyfs.fuse.direct.request_table import read_state  # noqa: E402
from lazyfs.fuse.session import HeldMount  # noqa: E402
from lazyfs.system import clean_start  # noqa: E402


def check(state: HandedState) -> None:
    """Raises UsageError if this version cannot go on serving the mount."""
    check_promises(state.init, state.answered)
    from lazyfs.daemon import answering_mount, served_mount  # noqa: F401 - they can be imported, with all below

    process.check_settings(state.settings)


def take_over(device: int, table: int, line: int, program: Sequence[str]) -> int:
    """Serves the mount until it is over. Returns the exit code."""
    os.chdir("/")
    os.umask(0o022)
    listening = handed_over()
    also = {listening.plain.fileno()} if listening else set()
    clean_start.close_descriptors(({device, table, line} | also) - {-1})
    for fd in {device, table, line} - {-1}:
        os.set_inheritable(fd, False)
    clean_start.default_signals()
    # Not always the state's: if the program of a reload dies at once, the keeper starts the one before.
    state = decode(read_state(table)).with_program(program)
    if state.log is not None:
        _write_log(state.log)
    held = HeldMount(device, table, state.init, state.answered)
    process.resume(TakenMount(held, state, listening), _holder(line), DaemonLog(state.log))
    return 0


def _holder(line: int) -> Holder:
    if line >= 0:
        return KeeperLine(socket.socket(fileno=line))
    address = os.environ.get(
        "NOTIFY_SOCKET"
    )  # systemd's, which a daemon with a keeper has nothing to do with
    return DescriptorStore(address) if address else KeeperLine(None)


def _write_log(path: str) -> None:
    """Redirects this process's standard output and standard error to the log file at `path`. If the file
    cannot be opened, for example because the daemon is no longer root, both stay the streams of the daemon
    before: better than a mount without a daemon."""
    try:
        target = open_log(path)
    except UsageError as error:
        sys.stderr.write(escaped(f"lazyfs: the log stays in the old file: {error}") + "\n")
        return
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def main(arguments: Sequence[str]) -> int:
    """Runs the command in the form that `arguments` have; returns the exit code."""
    try:
        if arguments == ["--check"]:
            check(decode(sys.stdin.buffer.read()))
            return 0
        device, table, line = map(int, arguments[:3])
        return take_over(device, table, line, arguments[3:])
    except LazyfsError as error:
        sys.stderr.write(escaped(f"lazyfs: {error}") + "\n")
        return error.exit_code


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
