"""The steps of a request to a registry, and what comes back: the words in which `access` speaks."""

from enum import Enum, auto
from typing import NamedTuple

from lazyfs.core.registry.challenges import Challenge


class Kind(Enum):
    """What a request is for. Rate limits are a kind's own: Docker Hub counts manifests only."""

    MANIFEST = auto()
    BLOB = auto()
    TAGS = auto()


class Identity(Enum):
    """As whom a request is made."""

    NOBODY = auto()
    ACCOUNT = auto()


class Privacy(Enum):
    """What the requests so far say of the repository."""

    PUBLIC = auto()
    PRIVATE = auto()
    """Something was read that nobody without an account may read."""
    UNPROVEN = auto()
    """The account was needed because of a rate limit alone, and no blob was served to nobody."""


class Send(NamedTuple):
    """Make the request with this Authorization field."""

    header: str | None


class Ask(NamedTuple):
    """Get an Authorization field that answers the challenge. `rejected` is the one that no longer does."""

    challenge: Challenge
    identity: Identity
    rejected: str | None


class Ping(NamedTuple):
    """Ask the API's root for its challenges: the refusal had none."""


class FindAccount(NamedTuple):
    """Look for an account; nothing before this has needed one."""


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Serve(NamedTuple):
    """The answer is the one to use."""


class Outcome(Enum):
    """How a request fails."""

    REFUSED = auto()
    MISSING = auto()
    BUSY = auto()
    BROKEN = auto()
    HOPELESS = auto()
    FAILED = auto()


class Stop(NamedTuple):
    """The request fails."""

    outcome: Outcome
    identity: Identity
    status: int = 0
    reason: str = ""
    wait: float = 0.0
    """Seconds that a busy server asks for, if they are too many."""
    at_token_server: bool = False
    attempts: int = 1


Step = Send | Ask | Ping | FindAccount | Pause | Serve | Stop


class Answer(NamedTuple):
    """What came back."""

    status: int
    challenges: tuple[Challenge, ...] = ()
    retry_after: float | None = None
    reason: str = ""
