"""Puts a process into a known state at its start, under every shell, batch system and service."""

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
    """Opens /dev/null in place of each closed stream of stdin, stdout and stderr. Otherwise the next file
    that is opened takes the stream's number, and printed text is written into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(found, True)


def default_signals() -> None:
    """Unblocks all signals and resets each to its default action, since a process that was started by `nohup`
    or after `trap ''` inherits ignored signals. Only SIGPIPE and SIGXFSZ are ignored, so that a write fails
    and does not end the process. Python ignores these two at its start too, but the module subprocess resets
    them in its children."""
    ignored = {signal.SIGPIPE, signal.SIGXFSZ}
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP} - ignored:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def end_when_interrupted() -> None:
    """From this call on, SIGINT ends this process at once, as SIGTERM does, unless the signal is ignored.
    Otherwise Python would raise KeyboardInterrupt in the code that runs at that moment. Some of this code,
    such as the callbacks of import locks, lets no exception out: of 400 signals that were sent during a
    start, one was lost."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_when_interrupted() -> None:
    """Undoes `end_when_interrupted`: SIGINT raises KeyboardInterrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def expect_children() -> None:
    """Resets SIGCHLD to its default action if it is ignored. While it is ignored, no child can be waited for,
    and each seems to have succeeded."""
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def close_descriptors(needed: Iterable[int]) -> None:
    """Closes every descriptor but stdin, stdout, stderr and the needed ones. Otherwise a daemon would hold
    the locks and pipes of its caller as long as it lives."""
    low = 3
    for number in sorted({*needed, os.sysconf("SC_OPEN_MAX")}):
        if number >= low:
            os.closerange(low, number)
            low = number + 1


def raise_limits() -> None:
    """Raises each soft limit to its hard limit: the job's soft limits of time, memory and file size are not
    meant for this process."""
    for limit in _LIMITS:
        _, most = resource.getrlimit(limit)
        resource.setrlimit(limit, (most, most))


def callers_environment() -> dict[str, str]:
    """Returns the caller's environment, including its LD_LIBRARY_PATH. The script `lazyfs` saves that
    variable under another name before it starts Python."""
    found = dict(os.environ)
    libraries = found.pop("LAZYFS_LD_LIBRARY_PATH", None)
    if libraries is not None:
        found["LD_LIBRARY_PATH"] = libraries
    return found
