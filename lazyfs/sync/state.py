"""The memory of a service between its runs: one JSON file in the status directory, and a lock beside it.

It holds facts that the store does not have: the wishes for each image, the failures and the times of the next
tries, the last question for each tag. Without it a run asks for each tag once, and finds the images that are
published already in the tree.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.system.durable_file import write_durably

VERSION = 1
FILE = "state.json"
LOCK = ".lock"
MOST_BYTES = 1 << 30


class WisherState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wish that wanted an image when it was last looked at."""

    list: str
    line: int
    wish: str
    owner: str = ""


class ImageState(msgspec.Struct, omit_defaults=True):
    """One image of the tree, or one that is to come into it."""

    digest: str = ""
    """The digest that its tag named when it was published; empty before that."""
    config: str = ""
    """Digest of the config, in hex: the name of its tree."""
    options: str = ""
    """Target.options when it was published."""
    published: int = 0
    """The time at which it was published: seconds since 1970, as are all times here."""
    revision: int = 0
    """The first revision that has this digest."""
    checked: int = 0
    """Moment of the last successful question to its registry."""
    size: int = 0
    """Stored bytes of its layers at the registry."""
    paths: list[str] = []
    """Its links and folders of metadata in the tree."""
    wishes: list[WisherState] = []
    private: bool = False
    """True if only an account may read it: then only an answer to the account proves that it is gone."""
    error: str = ""
    """The reason why the last try failed; empty after a success."""
    failed: int = 0
    """Moment at which the present failures began."""
    failures: int = 0
    failed_digest: str = ""
    next_try: int = 0
    gone: int = 0
    """The time at which it was first found to be wished no longer, or unknown to its registry."""


class ListState(msgspec.Struct, omit_defaults=True):
    """One list as it was last read."""

    format: str = ""
    wishes: int = 0
    read: int = 0
    good: int = 0
    """The time at which it was last a valid list."""
    problems: list[str] = []


class RunState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last run."""

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
    """Place -> image."""
    lists: dict[str, ListState] = {}
    dates: dict[str, int] = {}
    """Digest of a manifest -> when its image was made; for wishes that go by dates."""
    run: RunState = RunState()


def read_state(directory: str | None, repository: str) -> State:
    """Returns the state of a repository's service; an empty one if there is none.

    Raises UsageError for a file that is damaged, of a newer version, or of another repository.
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
    """Writes the state in one step. Raises UsageError if the directory cannot be written."""
    if directory is None:
        return
    try:
        write_durably(os.path.join(directory, FILE), msgspec.json.encode(state) + b"\n")
    except OSError as error:
        raise UsageError(f"status directory {directory}: {error.strerror}") from None


@contextmanager
def held(directory: str | None) -> Iterator[None]:
    """Makes the directory and keeps other runs out of it. Raises UsageError if one is at work."""
    if directory is None:
        yield
        return
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"status directory {directory}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"status directory {directory}: another lazyfs sync is at work with it: wait for it to end"
            ) from None
        yield
    finally:
        os.close(lock)
