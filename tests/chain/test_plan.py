"""The choice of the path to try next, and of the member (proxy or origin) to blame for a fault."""

import pytest

from lazyfs.core.chain.blame import Route
from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import CERTIFICATE, PEER, AttemptFailed, Fault
from lazyfs.core.chain.member import MemberState
from lazyfs.core.chain.notation import parse_proxies
from lazyfs.core.chain.plan import GiveUp, Plan
from lazyfs.core.chain.policy import Policy
from lazyfs.core.errors import BadData, DeadlineExceeded, NotFound, Outage
from tests.support.chain_world import World

P1, P2, P3 = "http://p1:3128", "http://p2:3128", "http://p3:3128"
S1, S2 = "http://s1/r", "http://s2/r"


def make_chain(proxies: str, *origins: str, policy: Policy | None = None) -> Chain:
    return Chain(parse_proxies(proxies), origins or (S1,), policy or Policy(), lambda: 0.5)


def run(
    chain: Chain, failing: dict[tuple[str, str], Fault], *, may_be_missing: bool = False
) -> tuple[object, list[tuple[str, str, bool]]]:
    """Runs one request while the (proxy, origin) pairs in `failing` fail; `*` stands for any name. Returns
    the request's error and its attempts."""

    def behaviour(_: float, route: Route) -> Fault | None:
        proxy, origin = route.proxy.name, route.origin.name
        for pair in ((proxy, origin), (proxy, "*"), ("*", origin), ("*", "*")):
            if pair in failing:
                return failing[pair]
        return None

    world = World(chain, behaviour)
    world.request(0.0, may_be_missing=may_be_missing)
    (result,) = world.run()
    return result.error, list(result.routes)


def state(chain: Chain, name: str) -> str:
    return next(member.state for member in chain.report(0.05).members if member.name == name)


def test_groups_in_order_and_direct_last() -> None:
    chain = make_chain(f"{P3};{P1};DIRECT")
    error, routes = run(chain, {(P3, "*"): Fault.REFUSED, (P1, "*"): Fault.SILENT})
    assert error is None
    assert routes == [(P3, S1, False), (P1, S1, False), ("DIRECT", S1, False)]


def test_a_group_shares_objects_and_takes_over_for_a_dead_member() -> None:
    chain = make_chain(f"{P1}|{P2};{P3}")
    homes = {path: chain.proxy_order(path)[0].name for path in (f"data/{n}" for n in range(200))}
    assert 60 < sum(home == P1 for home in homes.values()) < 140
    assert {chain.proxy_order(path)[0].name for path, home in homes.items() if home == P1} == {P1}
    _, routes = run(chain, {(P1, "*"): Fault.REFUSED})
    assert routes[-1][0] == P2


@pytest.mark.parametrize("fault", sorted(PEER))
def test_a_proxy_that_cannot_be_connected_to_is_left_at_once(fault: Fault) -> None:
    chain = make_chain(f"{P1};{P2}", S1, S2)
    _, routes = run(chain, {(P1, "*"): fault})
    assert routes == [(P1, S1, False), (P2, S1, False)]
    assert (state(chain, P1), state(chain, S1)) == (MemberState.DOWN, MemberState.UP)


@pytest.mark.parametrize(
    "fault", [Fault.UNAVAILABLE, Fault.SERVER_ERROR, Fault.SILENT, Fault.TRUNCATED, Fault.SLOW]
)
def test_the_next_origin_through_the_same_proxy_shows_who_failed(fault: Fault) -> None:
    chain = make_chain(f"{P1};{P2}", S1, S2)
    _, routes = run(chain, {("*", S1): fault})
    assert routes == [(P1, S1, False), (P1, S2, False)]
    assert [state(chain, name) for name in (P1, P2, S1, S2)] == ["up", "up", "down", "up"]


def test_a_proxy_that_fails_with_two_origins_is_left() -> None:
    chain = make_chain(f"{P1};{P2}", S1, S2, "http://s3/r")
    _, routes = run(chain, {(P1, "*"): Fault.SERVER_ERROR})
    assert [proxy for proxy, _, _ in routes] == [P1, P1, P2]


def test_with_one_origin_the_next_proxy_shows_who_failed() -> None:
    chain = make_chain(f"{P1};{P2}")
    run(chain, {(P1, S1): Fault.CLOSED})
    assert [state(chain, name) for name in (P1, P2, S1)] == ["down", "up", "up"]


def test_wrong_bytes_are_asked_for_again_past_caches_then_past_the_proxy() -> None:
    chain = make_chain(f"{P1};{P2}")
    error, routes = run(chain, {(P1, S1): Fault.BAD_CONTENT})
    assert error is None
    assert routes == [(P1, S1, False), (P1, S1, True), (P2, S1, True)]
    assert chain.healed == 1
    assert state(chain, P1) == MemberState.UP  # one wrong answer may be chance, three put the proxy down


def test_a_proxy_that_keeps_lying_is_put_aside_and_named() -> None:
    chain = make_chain(f"{P1};{P2}")
    for _ in range(3):
        run(chain, {(P1, S1): Fault.BAD_CONTENT})
    assert state(chain, P1) == MemberState.LIAR
    assert any(news.member == P1 and news.state is MemberState.LIAR for news in chain.news)
    _, routes = run(chain, {})
    assert routes == [(P2, S1, False)]


def test_a_liar_that_is_the_only_way_is_used_past_its_cache() -> None:
    chain = make_chain(P1)
    poisoned = lambda _, route: None if route.no_cache else Fault.BAD_CONTENT  # noqa: E731
    world = World(chain, poisoned)
    for at in range(20):
        world.request(float(at))
    results = world.run()
    assert [result.error for result in results] == [None] * 20
    assert state(chain, P1) == MemberState.LIAR
    assert results[-1].routes == ((P1, S1, True),)


def test_404_asks_the_next_origin_then_past_the_proxy_and_is_believed_when_all_say_it() -> None:
    chain = make_chain(f"{P1};{P2}", S1, S2)
    error, routes = run(chain, {("*", "*"): Fault.MISSING})
    assert isinstance(error, NotFound)
    assert {(proxy, origin) for proxy, origin, _ in routes} == {(p, s) for p in (P1, P2) for s in (S1, S2)}
    assert all(no_cache for _, _, no_cache in routes[1:])
    assert all(member.state == "up" for member in chain.report(0).members)


def test_a_lagging_replica_is_passed_by_and_keeps_its_place() -> None:
    chain = make_chain(P1, S1, S2)
    error, _ = run(chain, {("*", S1): Fault.MISSING})
    assert error is None
    assert state(chain, S1) == "up"


def test_403_on_every_path_is_an_answer_for_what_may_be_missing_and_blames_nobody() -> None:
    chain = make_chain(f"{P1};{P2}", S1, S2)
    error, routes = run(chain, {("*", "*"): Fault.DENIED}, may_be_missing=True)
    assert isinstance(error, NotFound)
    assert len(routes) == 4
    assert [state(chain, name) for name in (P1, P2, S1, S2)] == ["up"] * 4
    error, _ = run(chain, {(P1, "*"): Fault.DENIED, (P2, "*"): Fault.MISSING}, may_be_missing=True)
    assert isinstance(error, NotFound)


def test_403_is_a_fault_for_what_a_signature_reaches() -> None:
    error, _ = run(make_chain(P1), {("*", "*"): Fault.DENIED})
    assert isinstance(error, DeadlineExceeded | Outage)


def test_a_body_longer_than_a_profile_stated_is_nobodys_fault() -> None:
    """Regression: a profile with wrong sizes took the origin down."""
    chain = make_chain(f"{P1};{P2}", S1, S2)
    error, _ = run(chain, {("*", "*"): Fault.TOO_LONG}, may_be_missing=True)
    assert isinstance(error, NotFound)
    assert [state(chain, name) for name in (P1, P2, S1, S2)] == ["up"] * 4


def test_404_is_final_for_what_may_be_missing() -> None:
    error, routes = run(make_chain(f"{P1};{P2}", S1, S2), {("*", "*"): Fault.MISSING}, may_be_missing=True)
    assert isinstance(error, NotFound)
    assert len(routes) == 1


def test_an_object_that_is_bad_everywhere_is_bad_data_and_nobodys_fault() -> None:
    chain = make_chain(f"{P1};{P2}", S1, S2)
    error, _ = run(chain, {("*", "*"): Fault.BAD_CONTENT})
    assert isinstance(error, BadData)
    assert all(member.state == "up" for member in chain.report(0).members)


def test_a_firewalled_direct_way_does_not_speak_against_the_origin() -> None:
    """P1 fails once, and DIRECT never works. The origin must still count as up."""
    chain = make_chain(f"{P1};DIRECT")
    hiccups = iter([Fault.UNAVAILABLE])
    world = World(chain, lambda _, route: Fault.CONNECT if route.proxy.direct else next(hiccups, None))
    world.request(0.0)
    (result,) = world.run()
    assert result.error is None
    assert state(chain, S1) == "up"


def test_a_hiccup_of_the_only_path_stops_nobody() -> None:
    chain = make_chain("DIRECT")
    hiccups = iter([Fault.CLOSED])
    world = World(chain, lambda _, __: next(hiccups, None))
    world.request(0.0)
    world.request(0.1)
    results = world.run()
    assert [result.error for result in results] == [None, None]
    assert all(len(result.routes) <= 2 for result in results)
    assert not chain.news


def test_all_paths_down_fails_late_at_first_then_at_once_then_recovers_within_the_probe_interval() -> None:
    policy = Policy()
    chain = make_chain(f"{P1}|{P2}", S1, S2, policy=policy)
    back = 100.0
    world = World(chain, lambda now, _: Fault.REFUSED if now < back else None)
    for at in range(200):
        world.request(at / 1.0, path=f"data/{at}")
    results = sorted(world.run())
    assert isinstance(results[0].error, Outage | DeadlineExceeded)
    for result in results:
        if policy.outage_grace + 1 < result.began < back:
            assert isinstance(result.error, Outage)
            assert result.ended - result.began < 0.1
        if result.began > back + policy.probe_max:
            assert result.error is None
    assert "refused" in str(results[50].error) or "every path is down" in str(results[50].error)
    assert chain.report(300).outage_seconds == 0


def test_a_sweep_that_nobody_waits_for_any_more_is_made_by_the_next_request() -> None:
    chain = make_chain(f"{P1};{P2}")
    chain.no_path(0.0)
    now = chain.policy.outage_grace + 0.1
    plans = [Plan(chain, "data/x", now, now + 30, no_cache=False, may_be_missing=False) for _ in range(5)]
    steps = [plans[0].next(now), plans[1].next(now)]
    assert isinstance(steps[0], Route)
    assert isinstance(steps[1], GiveUp)
    plans[1].left(now)  # this plan leaves; the sweep belongs to plans[0]
    assert isinstance(plans[2].next(now), GiveUp)
    plans[0].failed(steps[0], AttemptFailed(Fault.REFUSED, ""), now, now)
    plans[0].left(now)  # the sweeping plan ends between two paths
    assert isinstance(plans[3].next(now), Route)
    assert isinstance(plans[4].next(now), GiveUp)


def test_a_restarting_squid_fails_no_read() -> None:
    chain = make_chain(P1)
    world = World(chain, lambda now, _: Fault.REFUSED if 1 < now < 4 else None)
    for at in range(100):
        world.request(at / 10, path=f"data/{at}")
    assert [result.error for result in world.run()] == [None] * 100


def test_members_do_not_come_back_in_step() -> None:
    times = set()
    for seed in range(10):
        chain = Chain(parse_proxies(P1), (S1,), Policy(), lambda seed=seed: seed / 10)  # type: ignore[misc]
        chain.groups[0][0].blame("refused", 0.0, 0.0)
        times.add(chain.groups[0][0].retry_at)
    assert len(times) == 10
    assert max(times) <= Policy().probe_first


def test_one_trial_at_a_time() -> None:
    chain = make_chain(f"{P1};{P2}")
    chain.groups[0][0].blame("refused", 0.0, 0.0)
    plans = [Plan(chain, "data/x", 5.0, 35.0, no_cache=False, may_be_missing=False) for _ in range(3)]
    first, second, third = (plan.next(5.0) for plan in plans)
    assert isinstance(first, Route)
    assert isinstance(second, Route)
    assert isinstance(third, Route)
    assert [route.proxy.name for route in (first, second, third)] == [P1, P2, P2]
    assert first.silence == Policy().trial_silence
    plans[0].abandoned(first)  # cancelled: the trial is open again
    again = Plan(chain, "data/x", 5.0, 35.0, no_cache=False, may_be_missing=False).next(5.0)
    assert isinstance(again, Route)
    assert again.proxy.name == P1


def test_a_late_failure_of_a_proxy_already_left_is_ignored() -> None:
    chain = make_chain(f"{P1};{P2}")
    member = chain.groups[0][0]
    for started in (0.0, 0.1, 0.2):
        member.blame("refused", started, 1.0)
    assert member.failures == 1


def test_retry_after_is_respected() -> None:
    chain = make_chain(f"{P1};{P2}")
    member = chain.groups[0][0]
    member.blame("429", 0.0, 0.0, stay_away=20.0)
    assert not member.usable(14.0)
    assert member.usable(20.0)


def test_origins_are_ordered_by_latency_with_a_margin() -> None:
    chain = make_chain("DIRECT", S1, S2)
    first, second = chain.origins
    first.measure(0.100, 0.0)
    second.measure(0.090, 0.0)
    chain.requests = 1
    assert chain.origin_order(1.0) == [first, second]
    second.latency = 0.02
    assert chain.origin_order(1.0) == [second, first]
    assert chain.origin_order(1.0) == [second, first]


def test_unknown_latencies_are_explored_now_and_then() -> None:
    chain = make_chain("DIRECT", S1, S2)
    firsts = []
    for _ in range(40):
        _, routes = run(chain, {})
        firsts.append(routes[0][1])
    assert firsts[:5] == [S1] * 5
    assert S2 in firsts
    assert all(origin.latency is not None for origin in chain.origins)


def test_hedges_take_another_proxy_and_stay_in_budget() -> None:
    chain = make_chain(f"{P1}|{P2}")
    hedges = 0
    for index in range(1000):
        plan = Plan(chain, f"data/{index}", 0.0, 30.0, no_cache=False, may_be_missing=False)
        route = plan.next(0.0)
        assert isinstance(route, Route)
        rival = plan.hedge(0.5, route)
        if rival is not None:
            hedges += 1
            assert rival.proxy is not route.proxy
            plan.abandoned(rival)
        plan.succeeded(route, 1.0, size=1, first_byte=0.1, elapsed=1.0, from_cache=False)
    assert 20 <= hedges <= 31
    assert chain.report(1).hedges == hedges


def test_no_hedge_without_another_way() -> None:
    chain = make_chain(P1)
    plan = Plan(chain, "data/x", 0.0, 30.0, no_cache=False, may_be_missing=False)
    route = plan.next(0.0)
    assert isinstance(route, Route)
    assert plan.hedge(1.0, route) is None


def test_the_hedge_threshold_follows_the_percentile() -> None:
    chain = make_chain(f"{P1}|{P2}")
    assert chain.hedges.after == Policy().hedge_default
    for index in range(128):
        chain.hedges.took(0.1 if index % 100 else 5.0)
    assert chain.hedges.after == pytest.approx(0.15)


def test_the_status_names_faults_and_hides_secrets() -> None:
    chain = make_chain("http://user:secret@p1:3128;DIRECT", S1)
    run(chain, {("http://p1:3128", S1): Fault.TRUNCATED})
    report = chain.report(0.1)
    proxy = report.members[0]
    assert (proxy.name, proxy.state) == ("http://p1:3128", "down")
    assert proxy.why == "body truncated (from http://s1/r)"
    assert proxy.faults == {"body truncated": 1}
    assert report.faults == {"body truncated": 1}
    assert "secret" not in repr(report)


@pytest.mark.parametrize("fault", sorted(CERTIFICATE))
def test_what_cannot_succeed_is_tried_once_a_request(fault: Fault) -> None:
    chain = make_chain("DIRECT", S1, S2)
    error, routes = run(chain, {("*", "*"): fault})
    assert routes == [("DIRECT", S1, False), ("DIRECT", S2, False)]
    assert isinstance(error, Outage)
    assert f"{fault.value} from {S1} over DIRECT" in str(error)
    assert (state(chain, S1), state(chain, S2)) == (MemberState.DOWN, MemberState.DOWN)
    assert f"{fault.value} (over DIRECT)" in [member.why for member in chain.origins]


@pytest.mark.parametrize("fault", sorted(CERTIFICATE))
def test_another_path_is_taken_beside_one_that_cannot_succeed(fault: Fault) -> None:
    for failing, routes in (
        ({(P1, "*"): fault}, [(P1, S1, False), ("DIRECT", S1, False)]),
        ({("*", S1): fault}, [(P1, S1, False), ("DIRECT", S1, False), ("DIRECT", S2, False)]),
    ):
        error, taken = run(make_chain(f"{P1};DIRECT", S1, S2), failing)
        assert (error, taken) == (None, routes)


def test_a_hopeless_path_does_not_keep_others_from_being_tried_again() -> None:
    chain = make_chain("DIRECT", S1, S2)
    hiccups = iter([Fault.REFUSED, Fault.REFUSED])
    world = World(chain, lambda _, route: Fault.EXPIRED if route.origin.name == S1 else next(hiccups, None))
    world.request(0.0)
    (result,) = world.run()
    assert result.error is None
    assert [origin for _, origin, _ in result.routes] == [S1, S2, S2, S2]


def test_a_certificate_behind_a_tunnel_speaks_against_the_origin() -> None:
    chain = make_chain(f"{P1};{P2}", S1)
    plan = Plan(chain, "x", 0.0, 30.0, no_cache=False, may_be_missing=False)
    for now in (0.0, 0.1):
        route = plan.next(now)
        assert isinstance(route, Route)
        plan.failed(route, AttemptFailed(Fault.UNTRUSTED, "s1 port 443", by_origin=True), now, now + 0.05)
    assert isinstance(plan.next(0.2), GiveUp)
    assert [state(chain, name) for name in (P1, P2, S1)] == ["up", "up", "down"]
    last = chain.report(0.2).members[-1]
    assert last.why.startswith("certificate not trusted: s1 port 443 (over ")


def test_a_refused_tunnel_is_no_missing_file() -> None:
    error, routes = run(make_chain(P1), {("*", "*"): Fault.TUNNEL}, may_be_missing=True)
    assert isinstance(error, Outage)
    assert routes == [(P1, S1, False)]


def test_a_proxy_that_wants_an_account_is_named_and_not_asked_again() -> None:
    chain = make_chain(P1)
    error, routes = run(chain, {("*", "*"): Fault.PROXY_ACCOUNT})
    assert isinstance(error, Outage)
    assert "407, the proxy wants an account" in str(error)
    assert [state(chain, name) for name in (P1, S1)] == ["down", "up"]
    assert routes == [(P1, S1, False)]


def test_a_server_that_wants_an_account_leaves_the_others_to_be_asked() -> None:
    error, routes = run(make_chain(P1, S1, S2), {("*", S1): Fault.ACCOUNT})
    assert error is None
    assert [origin for _, origin, _ in routes] == [S1, S2]
