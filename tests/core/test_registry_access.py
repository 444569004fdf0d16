"""The state machine of registry access, without a network: which account each request uses, and whether the
answers prove that an image is private."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.registry import steps
from lazyfs.core.registry.access import ATTEMPTS, MAX_PAUSE, Access, Exchange
from lazyfs.core.registry.challenges import Challenge
from lazyfs.core.registry.steps import Identity, Kind, Outcome, Privacy

BEARER, BASIC, NEGOTIATE = Challenge("bearer"), Challenge("basic"), Challenge("negotiate")
LONGEST = 200
"""The largest number of steps that one request can take: 6 failures and 8 renewals, for two identities."""


@dataclass
class World:
    """A registry and its token server, for requests to one repository."""

    nobody: int = 200
    """The status of the answer to a request without an account. The request has an anonymous token if the
    registry wants tokens."""
    account: int = 200
    challenges: tuple[Challenge, ...] = (BEARER,)
    """The challenges in the registry's 401, and in the answer of its API's root."""
    has_account: bool = False
    tokens: dict[Identity, list[int]] = field(default_factory=dict)
    """Identity -> statuses of the token server's answers, in order. The last one is repeated for ever.
    Without a list, the status is 200."""
    retry_after: float | None = None
    blobs: int = 200
    """The status of the answer to a request for a blob without an account."""
    open_door: bool = False
    """True if the registry serves requests without an Authorization header."""
    unknown: bool = False
    """True if the bodies of error answers state that the name is unknown."""
    log: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def run(self, access: Access, kind: Kind = Kind.MANIFEST) -> steps.Serve | steps.Stop:
        """Runs the steps of one request to its end; returns the final step."""
        exchange = Exchange(access, kind)
        step: steps.Step = exchange.start()
        for _ in range(LONGEST):
            self.log.append(type(step).__name__ + (f" {step.header}" if isinstance(step, steps.Send) else ""))
            match step:
                case steps.Serve() | steps.Stop():
                    return step
                case steps.Send(header):
                    step = exchange.answered(self._answer(header, kind))
                case steps.Ask():
                    step = self._token(exchange, step)
                case steps.Ping():
                    step = exchange.pinged(() if self.open_door else self.challenges)
                case steps.FindAccount():
                    step = exchange.account(found=self.has_account)
                case steps.Pause(seconds):
                    self.pauses.append(seconds)
                    step = exchange.start()
        raise AssertionError(f"no end: {self.log}")

    def _answer(self, header: str | None, kind: Kind) -> steps.Answer:
        if header is None and not self.open_door:
            return steps.Answer(401, self.challenges)
        nobody = self.blobs if kind is Kind.BLOB else self.nobody
        status = self.account if header and "ACCOUNT" in header else nobody
        challenges = self.challenges if status == 401 else ()
        return steps.Answer(status, challenges, self.retry_after, "its reason", self.unknown)

    def _token(self, exchange: Exchange, ask: steps.Ask) -> steps.Step:
        if ask.challenge == BASIC:
            return exchange.granted(f"Basic {ask.identity.name}")
        answers = self.tokens.get(ask.identity, [200])
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 200:
            return exchange.granted(f"Bearer {ask.identity.name}")
        answer = steps.Answer(status, (), self.retry_after, f"its token server answered {status}")
        return (
            exchange.token_server_busy(ask, answer)
            if status in (429, 500, 503)
            else exchange.denied(ask.challenge, answer)
        )


def privacy(access: Access) -> Privacy:
    """Returns what the answers so far prove about the privacy of the image."""
    return access.privacy


def test_a_public_image_is_read_by_nobody() -> None:
    world, access = World(has_account=True), Access()
    assert world.run(access) == steps.Serve()
    assert world.log == ["Send None", "Ask", "Send Bearer NOBODY", "Serve"]
    world.run(access, Kind.BLOB)
    assert world.log[4:] == ["Send Bearer NOBODY", "Serve"]
    assert privacy(access) is Privacy.PUBLIC


@pytest.mark.parametrize("challenges", [(BASIC,), (BEARER,), (NEGOTIATE, BASIC), (BASIC, BEARER)])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_the_account_follows_a_refusal_and_the_image_is_private(
    status: int, challenges: tuple[Challenge, ...]
) -> None:
    world, access = World(nobody=status, challenges=challenges, has_account=True), Access()
    assert world.run(access) == steps.Serve()
    preferred = "Bearer" if BEARER in challenges else "Basic"
    assert world.log[-2:] == [f"Send {preferred} ACCOUNT", "Serve"]
    assert privacy(access) is Privacy.PRIVATE
    world.log.clear()
    world.run(access, Kind.BLOB)
    assert world.log == [f"Send {preferred} ACCOUNT", "Serve"]  # the anonymous request is not repeated


@pytest.mark.parametrize(
    ("world", "outcome", "identity", "reason"),
    [
        (World(nobody=401), Outcome.REFUSED, Identity.NOBODY, "its reason"),
        (World(nobody=403), Outcome.REFUSED, Identity.NOBODY, "its reason"),
        (World(nobody=404), Outcome.MISSING, Identity.NOBODY, "its reason"),
        (World(challenges=(BASIC,)), Outcome.REFUSED, Identity.NOBODY, "a user name and a password"),
        (World(challenges=(NEGOTIATE,)), Outcome.REFUSED, Identity.NOBODY, "a kind not known: negotiate"),
        (World(challenges=()), Outcome.REFUSED, Identity.NOBODY, "a kind not known: none"),
        (
            World(tokens={Identity.NOBODY: [401]}),
            Outcome.REFUSED,
            Identity.NOBODY,
            "its token server answered 401",
        ),
        (World(nobody=401, account=401, has_account=True), Outcome.REFUSED, Identity.ACCOUNT, "its reason"),
        (World(nobody=401, account=403, has_account=True), Outcome.REFUSED, Identity.ACCOUNT, "its reason"),
        (World(nobody=404, account=404, has_account=True), Outcome.MISSING, Identity.ACCOUNT, "its reason"),
        (World(nobody=404, account=401, has_account=True), Outcome.MISSING, Identity.NOBODY, "its reason"),
        (
            World(nobody=404, open_door=True, has_account=True, challenges=()),
            Outcome.MISSING,
            Identity.NOBODY,
            "",
        ),
        (World(nobody=400), Outcome.FAILED, Identity.NOBODY, "its reason"),
        (World(nobody=503), Outcome.BUSY, Identity.NOBODY, "its reason"),
        (World(nobody=429), Outcome.BUSY, Identity.NOBODY, "its reason"),
        (World(nobody=429, account=401, has_account=True), Outcome.BUSY, Identity.NOBODY, "its reason"),
        (World(nobody=429, account=429, has_account=True), Outcome.BUSY, Identity.ACCOUNT, "its reason"),
    ],
)
def test_ways_that_end_in_nothing(world: World, outcome: Outcome, identity: Identity, reason: str) -> None:
    access = Access()
    end = world.run(access)
    assert isinstance(end, steps.Stop)
    assert (end.outcome, end.identity) == (outcome, identity)
    assert reason in end.reason
    assert not access.served_privately


def test_a_refused_account_is_remembered_where_the_first_answer_stands() -> None:
    access = Access()
    World(nobody=404, account=401, has_account=True).run(access)
    assert access.account_refused == "its reason"


@pytest.mark.parametrize(
    ("world", "unknown", "answered"),
    [
        (World(nobody=404), True, False),
        (World(nobody=404, account=404, has_account=True), True, True),
        (World(nobody=404, account=401, has_account=True), False, False),
        (World(nobody=404, account=403, has_account=True), False, False),
        (World(nobody=404, has_account=True, challenges=(NEGOTIATE,), open_door=True), False, False),
        (World(nobody=404, has_account=True, challenges=(), open_door=True), False, False),
    ],
)
def test_a_404_is_certain_only_if_no_account_was_left_unasked(
    world: World, unknown: bool, answered: bool
) -> None:
    world.unknown = True
    access = Access()
    end = world.run(access)
    assert isinstance(end, steps.Stop)
    assert (end.outcome, end.unknown, access.account_answered) == (Outcome.MISSING, unknown, answered)


@pytest.mark.parametrize(("status", "times"), [(503, 5), (429, 5), (500, 1)])
@pytest.mark.parametrize("has_account", [False, True])
def test_a_busy_token_server_is_waited_for_and_the_image_stays_public(
    status: int, times: int, has_account: bool
) -> None:
    world = World(tokens={Identity.NOBODY: [status] * times + [200]}, has_account=has_account)
    access = Access()
    assert world.run(access) == steps.Serve()
    assert world.pauses == [2.0**number for number in range(times)]
    assert privacy(access) is Privacy.PUBLIC
    # the question is repeated at the token server, not at the registry
    assert world.log.count("Send None") == 1


def test_a_token_server_that_asks_for_time_gets_it_up_to_a_limit() -> None:
    world = World(tokens={Identity.NOBODY: [429, 200]}, retry_after=17.0)
    assert world.run(Access()) == steps.Serve()
    assert world.pauses == [17.0]
    end = World(tokens={Identity.NOBODY: [503]}, retry_after=MAX_PAUSE + 1).run(Access())
    assert isinstance(end, steps.Stop)
    assert (end.outcome, end.wait, end.at_token_server) == (Outcome.BUSY, MAX_PAUSE + 1, True)


def test_the_anonymous_quota_is_out_and_the_account_goes_on() -> None:
    world, access = World(nobody=429, has_account=True), Access()
    assert world.run(access) == steps.Serve()
    assert world.pauses == []
    assert privacy(access) is Privacy.UNPROVEN
    world.log.clear()
    world.run(access)
    # the registry's anonymous limit on manifests is remembered
    assert world.log == ["Send Bearer ACCOUNT", "Serve"]
    world.log.clear()
    world.run(access, Kind.BLOB)
    assert world.log == ["Send Bearer NOBODY", "Serve"]  # the anonymous quota of blobs is not used up
    assert privacy(access) is Privacy.PUBLIC


def test_a_limit_does_not_make_a_private_image_public() -> None:
    world, access = World(nobody=429, blobs=401, has_account=True), Access()
    world.run(access)
    world.run(access, Kind.BLOB)
    assert privacy(access) is Privacy.PRIVATE
    unproven = Access()
    limited = World(nobody=429, blobs=429, has_account=True)
    limited.run(unproven)
    limited.run(unproven, Kind.BLOB)
    assert privacy(unproven) is Privacy.UNPROVEN


def test_a_second_challenge_is_tried_where_the_first_does_not_help() -> None:
    world = World(nobody=401, challenges=(BEARER, BASIC), has_account=True)
    world.tokens = {Identity.ACCOUNT: [401]}
    access = Access()
    assert world.run(access) == steps.Serve()
    assert world.log[-2:] == ["Send Basic ACCOUNT", "Serve"]


def test_an_expired_token_is_renewed() -> None:
    access = Access(headers={Identity.NOBODY: "Bearer old"})
    exchange = Exchange(access, Kind.BLOB)
    assert exchange.start() == steps.Send("Bearer old")
    assert exchange.answered(steps.Answer(401, (BEARER,))) == steps.Ask(BEARER, Identity.NOBODY, "Bearer old")
    assert exchange.granted("Bearer new") == steps.Send("Bearer new")
    beside = Exchange(access, Kind.BLOB)
    beside._sent = "Bearer old"  # sent before the other request was answered
    assert beside.answered(steps.Answer(401, (BEARER,))) == steps.Send("Bearer new")
    assert exchange.answered(steps.Answer(200)) == steps.Serve()


def test_a_new_token_that_others_used_up_gets_a_second_chance_and_a_password_none() -> None:
    exchange = Exchange(Access(account=False), Kind.BLOB)
    exchange.start()
    refusal = steps.Answer(401, (BEARER,))
    assert isinstance(exchange.answered(refusal), steps.Ask)
    assert exchange.granted("Bearer one") == steps.Send("Bearer one")
    assert exchange.answered(refusal) == steps.Ask(BEARER, Identity.NOBODY, "Bearer one")
    exchange.granted("Bearer two")
    assert isinstance(exchange.answered(refusal), steps.Stop)
    exchange = Exchange(Access(account=True, nobody_refused=True, challenges=(BASIC,)), Kind.BLOB)
    assert isinstance(exchange.start(), steps.Ask)
    exchange.granted("Basic one")
    assert isinstance(exchange.answered(steps.Answer(401, (BASIC,))), steps.Stop)


def test_what_is_hopeless_is_tried_once() -> None:
    exchange = Exchange(Access(), Kind.MANIFEST)
    exchange.start()
    assert exchange.broke("no such host", hopeless=True) == steps.Stop(
        Outcome.HOPELESS, Identity.NOBODY, reason="no such host"
    )
    exchange = Exchange(Access(), Kind.MANIFEST)
    exchange.start()
    pauses = [exchange.broke("reset", hopeless=False) for _ in range(ATTEMPTS)]
    assert pauses[:-1] == [steps.Pause(2.0**number) for number in range(ATTEMPTS - 1)]
    assert isinstance(pauses[-1], steps.Stop)


STATUS = st.sampled_from([200, 206, 400, 401, 403, 404, 408, 416, 429, 500, 503])
CHALLENGES = st.lists(st.sampled_from([BEARER, BASIC, NEGOTIATE]), max_size=3).map(tuple)
ANSWERS = st.builds(steps.Answer, STATUS, CHALLENGES, st.none() | st.floats(0.1, 400), st.just(""))


class AnyRegistry:
    """A registry whose answers Hypothesis draws. Checks the guarantees of the state machine."""

    def __init__(self, data: st.DataObject, access: Access, has_account: bool) -> None:
        self._data = data
        self._access = access
        self._has_account = has_account
        self.looked = 0
        self.refused = False
        """True once the registry has refused an anonymous request."""
        self.private = False
        """True once the registry has served a request that needed the account."""

    def run(self, kind: Kind) -> None:
        """Runs one request to its end."""
        exchange = Exchange(self._access, kind)
        step: steps.Step = exchange.start()
        made: dict[str | None, Identity] = {header: who for who, header in self._access.headers.items()}
        last = steps.Answer(0)
        for number in range(LONGEST):
            match step:
                case steps.Serve():
                    assert 200 <= last.status < 300
                    return
                case steps.Stop():
                    return
                case steps.Send(header):
                    last = self._data.draw(ANSWERS)
                    self._sent(made.get(header, Identity.NOBODY), last)
                    step = exchange.answered(last)
                case steps.Ask(challenge, identity, _):
                    assert challenge.scheme in ("bearer", "basic")
                    self.refused |= identity is Identity.NOBODY  # the token server may refuse too
                    header = f"{challenge.scheme} {kind.name} {number}"
                    made[header] = identity
                    step = self._token(exchange, step, header)
                case steps.Ping():
                    step = exchange.pinged(self._data.draw(CHALLENGES))
                case steps.FindAccount():
                    assert self.refused
                    self.looked += 1
                    step = exchange.account(found=self._has_account)
                case steps.Pause(seconds):
                    assert 0 < seconds <= MAX_PAUSE
                    step = exchange.start()
        raise AssertionError("no end")

    def _sent(self, identity: Identity, answer: steps.Answer) -> None:
        if identity is Identity.ACCOUNT:
            assert self._has_account
            assert self.refused
            self.private |= 200 <= answer.status < 300
        self.refused |= answer.status in (401, 403, 404, 429)

    def _token(self, exchange: Exchange, ask: steps.Ask, header: str) -> steps.Step:
        how = self._data.draw(st.sampled_from(["granted", "denied", "busy", "broke"]))
        if how == "granted":
            return exchange.granted(header)
        if how == "denied":
            return exchange.denied(ask.challenge, steps.Answer(401))
        if how == "busy":
            return exchange.token_server_busy(ask, steps.Answer(429))
        return exchange.broke("", hopeless=False, asked=ask)


@given(st.data(), st.booleans(), st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=4))
def test_whatever_is_answered_each_request_ends_and_the_account_is_not_shown_unasked(
    data: st.DataObject, has_account: bool, kinds: list[Kind]
) -> None:
    access = Access()
    registry = AnyRegistry(data, access, has_account)
    for kind in kinds:
        registry.run(kind)
    assert registry.looked <= 1
    assert (access.served_privately or access.served_beyond_limit) == registry.private


@pytest.mark.parametrize("status", [401, 403, 404])
def test_privacy_is_the_sum_of_all_requests(status: int) -> None:
    """Anyone may read the manifest, but this does not prove that anyone may read the blobs."""
    access = Access()
    assert World(has_account=True).run(access) == steps.Serve()
    assert privacy(access) is Privacy.PUBLIC
    assert World(blobs=status, has_account=True).run(access, Kind.BLOB) == steps.Serve()
    assert privacy(access) is Privacy.PRIVATE
