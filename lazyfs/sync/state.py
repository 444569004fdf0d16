"""The state that a service keeps between its runs: a JSON file in the service's status directory
(`--status-dir`), with a lock beside it.

It holds what the store does not have: the wishes for each image, failures and the times of the next tries,
and when each tag was last asked for. Without the file, a run asks for each tag once, and finds in the tree
the images that are published already.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.sync.quotas import QuotaUse
from lazyfs.system.durable_file import write_durably

VERSION = 1
FILE = "state.json"
LOCK = ".lock"
MOST_BYTES = 1 << 30
LOOK = 0.2
"""Seconds between two tries to take a lock that another process holds."""


class WisherState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wish that meant an image when the wish was last looked at."""

    list: str
    line: int
    wish: str
    owner: str = ""


class AcknowledgedState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The acknowledgement of a failure, as it was in the configuration at the last run."""

    until: str
    """The last day on which it holds: YYYY-MM-DD."""
    by: str = ""
    reason: str = ""

    @property
    def text(self) -> str:
        """The acknowledgement in words, for people."""
        by = f" by {self.by}" if self.by else ""
        return f"acknowledged until {self.until}{by}" + (f": {self.reason}" if self.reason else "")


class ImageState(msgspec.Struct, omit_defaults=True):
    """One image that is in the tree, or is to be published."""

    digest: str = ""
    """The digest that the image's tag named when the image was published; empty before that."""
    config: str = ""
    """Digest of the image's config, in hex; the image's tree has this name."""
    options: str = ""
    """The value of Target.options when the image was published."""
    published: int = 0
    """The time at which the image was published. All times here are seconds since 1970."""
    revision: int = 0
    """The first revision that has this digest."""
    checked: int = 0
    """The time at which the image's registry last answered a question about it."""
    size: int = 0
    """Stored bytes of the image's layers at its registry."""
    paths: list[str] = []
    """The paths in the tree of the image's links and folders of metadata."""
    wishes: list[WisherState] = []
    profiled: str = ""
    """A hash of the digest and the commands whose start was recorded last."""
    private: bool = False
    """True if the image can be read only with an account. Then only an answer to the account proves that it
    is gone."""
    error: str = ""
    """The reason why the last try failed; empty after a success."""
    failed: int = 0
    """The time at which the present failures began."""
    failures: int = 0
    failed_digest: str = ""
    next_try: int = 0
    gone: int = 0
    """The time at which the image was first found to have a reason to leave: no longer wished, or gone from
    its registry. 0 if it has none."""
    acknowledged: AcknowledgedState | None = None
    """The acknowledgement of the failure; None if there is none, or no failure."""


class ListState(msgspec.Struct, omit_defaults=True):
    """One list as it was last read."""

    format: str = ""
    wishes: int = 0
    read: int = 0
    good: int = 0
    """The time at which the list was last valid."""
    problems: list[str] = []
    acknowledged: AcknowledgedState | None = None
    """The acknowledgement of the problems; None if there is none, or no problem."""


class RunState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last run of the service."""

    began: int = 0
    ended: int = 0
    revision: int = 0
    published: int = 0
    unchanged: int = 0
    failed: int = 0
    removed: int = 0


class State(msgspec.Struct, omit_defaults=True):
    """The whole state of a service."""

    version: int = VERSION
    repository: str = ""
    images: dict[str, ImageState] = {}
    """The images, by place."""
    lists: dict[str, ListState] = {}
    failing_wishes: dict[str, int] = {}
    """The wishes whose tags could not be listed in the last run, each with the time at which this failure
    began."""
    dates: dict[str, int] = {}
    """The times at which images were made, by the digests of their manifests; for wishes that choose tags by
    date."""
    run: RunState = RunState()
    quotas: dict[str, QuotaUse] = {}
    """Owner -> use of the owner's quota, for the owners who have one."""


def read_state(directory: str | None, repository: str) -> State:
    """Returns the state of a repository's service; an empty state if there is no file.

    Raises UsageError if the file is damaged, of a newer version, or of another repository.
    """
    if directory is None:
        return State(repository=repository)
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES)
    except FileNotFoundError:
        return State(repository=repository)
    except OSError as error:
        raise UsageError(f"status {path}: {error.strerror}") from None
    try:
        version = msgspec.json.decode(data, type=dict).get("version", VERSION)
        if version != VERSION:
            raise UsageError(
                f"status {path}: version {version!r}; this lazyfs reads {VERSION}: upgrade lazyfs"
            )
        state = msgspec.json.decode(data, type=State)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"status {path}: damaged ({error}): move it away; the next run asks every tag once"
        ) from None
    if repository and state.repository not in ("", repository):
        raise UsageError(
            f"status {path}: it is of {state.repository}, not of {repository}: give another --status-dir"
        )
    state.repository = repository or state.repository
    return state


def write_state(directory: str | None, state: State) -> None:
    """Replaces the state file atomically. Raises UsageError if the directory cannot be written."""
    if directory is None:
        return
    try:
        write_durably(os.path.join(directory, FILE), msgspec.json.encode(state) + b"\n")
    except OSError as error:
        raise UsageError(f"status directory {directory}: {error.strerror}") from None


class Busy(UsageError):
    """Another run holds the lock of the status directory."""


@contextmanager
def held(directory: str | None, wait: float = 0.0) -> Iterator[None]:
    """Makes the status directory if needed, and locks it against other runs for the block. Raises UsageError;
    Busy if another run still holds the lock after `wait` seconds."""
    if directory is None:
        yield
        return
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"status directory {directory}: {error.strerror}") from None
    try:
        if not _locked(lock, wait):
            raise Busy(
                f"status directory {directory}: another lazyfs sync is at work with it: wait for it to end"
            )
        yield
    finally:
        os.close(lock)


def _locked(lock: int, wait: float) -> bool:
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(min(LOOK, wait))
        else:
            return True
