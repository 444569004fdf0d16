"""The steps of a request to a registry, and the facts of its answers: the vocabulary of `access`."""

from enum import Enum, auto
from typing import NamedTuple

from lazyfs.core.registry.challenges import Challenge


class Kind(Enum):
    """The purpose of a request. Each kind has its own rate limit: Docker Hub counts manifests only."""

    MANIFEST = auto()
    BLOB = auto()
    TAGS = auto()


class Identity(Enum):
    """The identity under which a request is made: anonymous, or with the operator's account at the
    registry."""

    NOBODY = auto()
    ACCOUNT = auto()


class Privacy(Enum):
    """The privacy of a registry's repository, as far as requests have shown it."""

    PUBLIC = auto()
    PRIVATE = auto()
    """A private manifest or blob was read with the account."""
    UNPROVEN = auto()
    """The account was needed because of a rate limit alone, and no blob was served anonymously."""


class Send(NamedTuple):
    """Make the request with this Authorization field."""

    header: str | None


class Ask(NamedTuple):
    """Get an Authorization field that answers the challenge. `rejected` is the field that is no longer
    accepted."""

    challenge: Challenge
    identity: Identity
    rejected: str | None


class Ping(NamedTuple):
    """Ask the top of the registry's API (/v2/) for its challenges: the refusal had none."""


class FindAccount(NamedTuple):
    """Look for an account; this is the first request that needs one."""


class Pause(NamedTuple):
    """Wait for `seconds`, then go on with the request."""

    seconds: float


class Serve(NamedTuple):
    """End the request: the answer that came last is its result."""


class Outcome(Enum):
    """The reason why a request fails."""

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
    """Seconds for which a busy server asks the client to wait, if that is longer than a request may wait."""
    at_token_server: bool = False
    attempts: int = 1
    unknown: bool = False
    """True if the registry itself answered that it has nothing of this name."""


Step = Send | Ask | Ping | FindAccount | Pause | Serve | Stop


class Answer(NamedTuple):
    """The facts of an answer that decide the next step."""

    status: int
    challenges: tuple[Challenge, ...] = ()
    retry_after: float | None = None
    reason: str = ""
    unknown: bool = False
    """True if the body has the distribution API's code for a name that the registry does not know."""
