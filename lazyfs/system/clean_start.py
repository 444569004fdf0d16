"""A process that begins from a known state, whatever shell, batch system or service has started it."""

import os
import resource
import signal
from collections.abc import Iterable

_LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
)


def open_standard_streams() -> None:
    """Opens /dev/null in place of those of stdin, stdout and stderr that are closed: otherwise the next file
    opened takes the number, and gets what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(found, True)


def default_signals() -> None:
    """Unblocks all signals, and undoes what was ignored or caught: `nohup` and `trap ''` hand that down.
    SIGPIPE and SIGXFSZ stay as Python has them: ignored, so that the call fails."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def expect_children() -> None:
    """Undoes that SIGCHLD is ignored: no child could be waited for, and each would seem to have succeeded."""
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def close_descriptors(needed: Iterable[int]) -> None:
    """Closes every descriptor but stdin, stdout, stderr and those needed. Locks and pipes of a caller would
    be held for as long as a daemon lives."""
    low = 3
    for number in sorted({*needed, os.sysconf("SC_OPEN_MAX")}):
        if number >= low:
            os.closerange(low, number)
            low = number + 1


def raise_limits() -> None:
    """Raises each soft limit to its hard one: a job's limits of time, memory and file size are its own."""
    for limit in _LIMITS:
        _, most = resource.getrlimit(limit)
        resource.setrlimit(limit, (most, most))


def callers_environment() -> dict[str, str]:
    """Returns the environment of the caller: the script `lazyfs` puts LD_LIBRARY_PATH aside
    before it starts Python."""
    found = dict(os.environ)
    libraries = found.pop("LAZYFS_LD_LIBRARY_PATH", None)
    if libraries is not None:
        found["LD_LIBRARY_PATH"] = libraries
    return found
