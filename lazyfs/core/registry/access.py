"""Rules that decide for each request to a registry's repository if it is made anonymously or with an account.

Every request is first made anonymously, to learn if the image is public. The account is used when the
anonymous request is refused (401, 403), is answered with 404 (registries hide private images), or has met the
anonymous rate limit (429). `Exchange` is the course of one request; `Access` is the state that all requests
to a repository share. Both are pure: they are told events and return the next step.

The step after an answer is Serve, Stop, Pause, Ask (for a token), Ping (for challenges) or FindAccount.
"""

from dataclasses import dataclass, field

from lazyfs.core.registry.challenges import Challenge
from lazyfs.core.registry.steps import (
    Answer,
    Ask,
    FindAccount,
    Identity,
    Kind,
    Outcome,
    Pause,
    Ping,
    Privacy,
    Send,
    Serve,
    Step,
    Stop,
)

ATTEMPTS = 6
"""The number of failures after which a request stops; with doubling pauses, that takes half a minute."""
MAX_PAUSE = 300.0
"""The longest pause that a server may ask for, in seconds: a longer Retry-After ends the request at once."""
RENEWALS = 8
"""The largest number of Authorization headers that are obtained in one request: two identities with two
challenges each, and a token that expires."""

_SCHEMES = ("bearer", "basic")
"""The schemes that can be answered, in docker's and skopeo's order of preference."""


@dataclass
class Access:
    """The facts that all requests to a registry's repository have shown. Needs a lock around it."""

    account: bool | None = None
    """True if there is an account; None before the first look."""
    account_refused: str = ""
    """The reason, once the account was refused."""
    challenges: tuple[Challenge, ...] = ()
    pinged: bool = False
    nobody_refused: bool = False
    limited: set[Kind] = field(default_factory=set)
    """The kinds of requests for which the anonymous rate limit is used up for now."""
    headers: dict[Identity, str] = field(default_factory=dict)
    account_answered: bool = False
    """True once the registry accepted the account: it served a request made with the account, or answered
    such a request with 404."""
    served_privately: bool = False
    served_beyond_limit: bool = False
    served_publicly: bool = False
    """True once a blob was served anonymously."""

    @property
    def privacy(self) -> Privacy:
        if self.served_privately:
            return Privacy.PRIVATE
        if self.served_beyond_limit and not self.served_publicly:
            return Privacy.UNPROVEN
        return Privacy.PUBLIC

    def identity(self, kind: Kind) -> Identity:
        """Returns the identity with which a request of this kind begins."""
        usable = self.account and not self.account_refused
        return (
            Identity.ACCOUNT if usable and (self.nobody_refused or kind in self.limited) else Identity.NOBODY
        )

    def usable(self, identity: Identity) -> list[Challenge]:
        """Returns the challenges that this identity can answer, the preferred scheme first."""
        answerable = _SCHEMES if identity is Identity.ACCOUNT else ("bearer",)
        return [item for scheme in answerable for item in self.challenges if item.scheme == scheme]


class Exchange:
    """The course of one request. Each public method takes an event and returns the next step."""

    def __init__(self, access: Access, kind: Kind) -> None:
        self._access = access
        self._kind = kind
        self._identity = access.identity(kind)
        self._sent: str | None = None
        self._fresh = False
        """True if the Authorization header that was sent was obtained for this very request."""
        self._used_up: set[str] = set()
        """Schemes by which this identity was refused."""
        self._vain: list[str] = []
        """Schemes whose headers were refused although they were made for this request. Two tokens are tried,
        because parallel requests may have used the first one up."""
        self._renewals = 0
        self._failures = 0
        self._why = Answer(0)
        """The anonymous answer because of which this request uses the account."""
        self._after_pause: Step | None = None

    def start(self) -> Step:
        """Returns the first step; when called after a pause, the next step."""
        if self._after_pause is not None:
            step, self._after_pause = self._after_pause, None
            return step
        header = self._access.headers.get(self._identity)
        if header is None and self._identity is Identity.ACCOUNT:
            return self._ask(self._why)
        self._sent = header
        return Send(header)

    def answered(self, answer: Answer) -> Step:
        """Takes the answer to the request."""
        status = answer.status
        if self._identity is Identity.ACCOUNT and self._sent and (200 <= status < 300 or status == 404):
            self._access.account_answered = True
        if 200 <= status < 300:
            return self._served()
        if answer.challenges:
            self._access.challenges = answer.challenges
        if status == 401 or (status == 403 and self._sent and not self._fresh):
            return self._unauthorized(answer)
        if status == 403:
            return self._refused(answer)
        nobody = self._identity is Identity.NOBODY
        if status == 404:
            if nobody and not self._access.account_refused:
                return self._as_account(answer)
            return Stop(Outcome.MISSING, self._identity, status, answer.reason, unknown=answer.unknown)
        if status == 429 and nobody and not self._access.account_refused and self._why.status != 429:
            return self._as_account(answer)
        if status in (408, 425, 429) or status >= 500:
            return self._busy(answer, None)
        return Stop(Outcome.FAILED, self._identity, status, answer.reason)

    def broke(self, problem: str, hopeless: bool, *, asked: Ask | None = None) -> Step:
        """Takes the failure of a connection. `hopeless`: a retry will fail too. `asked`: the step that
        failed, if the connection was to the token server."""
        self._failures += 1
        if hopeless or self._failures >= ATTEMPTS:
            outcome = Outcome.HOPELESS if hopeless else Outcome.BROKEN
            return Stop(
                outcome,
                self._identity,
                reason=problem,
                at_token_server=asked is not None,
                attempts=self._failures,
            )
        self._after_pause = asked
        return Pause(2.0 ** (self._failures - 1))

    def granted(self, header: str, *, fresh: bool = True) -> Step:
        """Takes an Authorization field that answers the challenge. `fresh`: False if another request obtained
        it."""
        self._access.headers[self._identity] = header
        self._sent, self._fresh = header, fresh
        return Send(header)

    def denied(self, challenge: Challenge, answer: Answer) -> Step:
        """Notes that a challenge cannot be answered: the token server refuses, or the account does not fit
        the challenge."""
        self._used_up.add(challenge.scheme)
        return self._ask(answer)

    def token_server_busy(self, step: Ask, answer: Answer) -> Step:
        """Takes an answer of the token server that asks for a pause: 429 or 5xx."""
        return self._busy(answer, step)

    def pinged(self, challenges: tuple[Challenge, ...]) -> Step:
        """Takes the challenges from the answer to a Ping."""
        self._access.pinged = True
        self._access.challenges = challenges
        return self._ask(self._why)

    def account(self, *, found: bool) -> Step:
        """Takes the result of the search for an account."""
        self._access.account = found
        return self._as_account(self._why)

    def _served(self) -> Step:
        access = self._access
        limited = self._why.status == 429 or (not self._why.status and self._kind in access.limited)
        if self._identity is Identity.NOBODY:
            access.served_publicly |= self._kind is Kind.BLOB
        elif limited and not access.nobody_refused:
            access.limited.add(self._kind)
            access.served_beyond_limit = True
        else:
            access.nobody_refused = True  # by a 404 too, with which a registry hides private images
            access.served_privately = True
        return Serve()

    def _unauthorized(self, answer: Answer) -> Step:
        access = self._access
        current = access.headers.get(self._identity)
        self._renewals += 1
        if self._renewals > RENEWALS:
            return self._refused(answer)
        if current is not None and current != self._sent:
            self._sent, self._fresh = current, False
            return Send(current)  # another request has renewed it
        if self._fresh and self._sent is not None:
            scheme = self._sent.partition(" ")[0].lower()
            self._vain.append(scheme)
            if scheme == "basic" or self._vain.count(scheme) > 1:
                self._used_up.add(scheme)
        return self._ask(answer)

    def _ask(self, answer: Answer) -> Step:
        """Returns the step that gets a header for the next challenge that this identity can answer. If there
        is no such challenge, returns a Ping, if that may bring challenges, or the step of `_refused`."""
        access = self._access
        for challenge in access.usable(self._identity):
            if challenge.scheme not in self._used_up:
                return Ask(challenge, self._identity, access.headers.get(self._identity))
        if self._identity is Identity.ACCOUNT and not access.challenges and not access.pinged:
            return Ping()
        return self._refused(answer)

    def _refused(self, answer: Answer) -> Step:
        """Returns the step after a refusal of this identity."""
        access = self._access
        if self._identity is Identity.NOBODY:
            if access.account is False or access.account_refused:
                return Stop(Outcome.REFUSED, self._identity, answer.status, self._explained(answer))
            return self._as_account(answer)
        if not access.challenges and self._why.status in (404, 429):
            return self._without_account(self._why)  # the registry knows no accounts: the first answer stands
        access.headers.pop(Identity.ACCOUNT, None)
        reason = answer.reason or (f"it answered {answer.status}" if answer.status else "no reason given")
        if self._why.status in (404, 429):
            access.account_refused = reason
            return self._without_account(self._why)
        return Stop(Outcome.REFUSED, self._identity, answer.status, self._explained(answer))

    def _explained(self, answer: Answer) -> str:
        if answer.status == 401 and not answer.reason:
            known = [item.scheme for item in self._access.challenges]
            if self._identity is Identity.NOBODY and known == ["basic"]:
                return "it wants a user name and a password"
            if not set(known) & set(_SCHEMES):
                return f"it asks for authentication of a kind not known: {', '.join(known) or 'none'}"
        return answer.reason

    def _as_account(self, why: Answer) -> Step:
        """Returns the step that goes on with the account, because of the anonymous answer `why`."""
        access = self._access
        self._why = why
        if access.account is None:
            return FindAccount()
        if not access.account:
            return self._without_account(why)
        if why.status not in (404, 429):
            access.nobody_refused = True
        self._identity = Identity.ACCOUNT
        self._used_up, self._vain, self._sent, self._fresh = set(), [], None, False
        return self.start()

    def _without_account(self, why: Answer) -> Step:
        """Ends a request without a usable account: the anonymous answer `why` stands. If an account exists
        but was not used, a 404 proves nothing: the image may be hidden."""
        self._identity = Identity.NOBODY
        self._used_up, self._vain = set(), []
        if why.status == 429:
            return self._busy(why, None)
        if why.status == 404:
            unknown = why.unknown and not self._access.account
            return Stop(Outcome.MISSING, Identity.NOBODY, 404, why.reason, unknown=unknown)
        return Stop(Outcome.REFUSED, Identity.NOBODY, why.status, self._explained(why))

    def _busy(self, answer: Answer, asked: Ask | None) -> Step:
        """Returns the step after an answer with which a server asks for a pause."""
        self._failures += 1
        wait = answer.retry_after or 2.0 ** (self._failures - 1)
        if self._failures >= ATTEMPTS or wait > MAX_PAUSE:
            if asked and answer.status == 429 and self._may_try_account():
                self._failures = 0
                return self._as_account(answer)
            return Stop(
                Outcome.BUSY,
                self._identity,
                answer.status,
                answer.reason,
                wait if wait > MAX_PAUSE else 0.0,
                asked is not None,
                self._failures,
            )
        self._fresh = False  # a token may expire during the pause
        self._after_pause = asked
        return Pause(wait)

    def _may_try_account(self) -> bool:
        access = self._access
        nobody = self._identity is Identity.NOBODY
        return nobody and access.account is not False and not access.account_refused
