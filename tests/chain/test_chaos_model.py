"""Random sites in simulated time: every request ends by its deadline, and succeeds if a path works."""

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazyfs.core.chain.blame import Route
from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import PEER, Fault
from lazyfs.core.chain.policy import Policy
from lazyfs.core.errors import LazyfsError
from tests.support.chain_world import World

PROXIES = (("http://p1:1", "http://p2:1"), ("http://p3:1",), ("DIRECT",))
ORIGINS = ("http://s1/r", "http://s2/r")
NAMES = [name for group in PROXIES for name in group] + list(ORIGINS)
EPOCH = 7.0
"""Seconds after which another set of members (proxies and origins) is broken."""

faults = st.sampled_from([fault for fault in Fault if fault is not Fault.MISSING])
broken = st.dictionaries(st.sampled_from(NAMES), faults)
"""Broken member -> its fault, for one epoch."""


def _chain(seed: int) -> Chain:
    return Chain(PROXIES, ORIGINS, Policy(), random.Random(seed).random)


def _behaviour(epochs: list[dict[str, Fault]], now: float, route: Route) -> Fault | None:
    sick = epochs[min(int(now / EPOCH), len(epochs) - 1)]
    mine, behind = sick.get(route.proxy.name), sick.get(route.origin.name)
    if behind in PEER and not route.proxy.direct:
        behind = Fault.UNAVAILABLE  # a proxy that cannot reach the origin says so
    return mine or behind


@settings(max_examples=150)
@given(
    epochs=st.lists(
        broken.filter(
            lambda sick: (
                any(o not in sick for o in ORIGINS)
                and any(name not in sick for group in PROXIES for name in group)
            )
        ),
        min_size=1,
        max_size=6,
    ),
    seed=st.integers(0, 1000),
)
@example(  # the only path that lives in the end had a bad certificate when the request began
    epochs=[
        {"http://p1:1": Fault.UNTRUSTED, "http://p2:1": Fault.SILENT},
        dict.fromkeys(("http://p2:1", "http://p3:1", "DIRECT"), Fault.DNS),
    ],
    seed=0,
)
@example(  # all paths have had a bad certificate, but never at one time
    epochs=[
        {"http://p1:1": Fault.UNTRUSTED, "http://p2:1": Fault.SILENT, "http://p3:1": Fault.SILENT},
        dict.fromkeys(("http://p2:1", "http://p3:1", "DIRECT"), Fault.UNTRUSTED),
    ],
    seed=0,
)
def test_while_a_path_lives_no_request_fails(epochs: list[dict[str, Fault]], seed: int) -> None:
    world = World(_chain(seed), lambda now, route: _behaviour(epochs, now, route))
    count = int(len(epochs) * EPOCH * 2)
    for index in range(count):
        world.request(index / 2, path=f"data/{index}")
    results = world.run()
    assert len(results) == count
    for result in results:
        assert result.error is None, result
        assert result.ended - result.began <= 30.01


@settings(max_examples=150)
@given(
    epochs=st.lists(broken, min_size=1, max_size=6),
    patience=st.floats(0.1, 20),
    seed=st.integers(0, 1000),
)
def test_every_request_ends_by_its_deadline(
    epochs: list[dict[str, Fault]], patience: float, seed: int
) -> None:
    chain = _chain(seed)
    world = World(chain, lambda now, route: _behaviour(epochs, now, route))
    for index in range(60):
        world.request(index / 3, path=f"data/{index}", patience=patience)
    results = world.run()
    assert len(results) == 60
    for result in results:
        assert result.ended - result.began <= patience + 0.01
        assert result.error is None or isinstance(result.error, LazyfsError)
    members = [member for group in chain.groups for member in group] + chain.origins
    assert all(member.trials == 0 for member in members)


@settings(max_examples=100)
@given(sick=broken, seed=st.integers(0, 1000))
def test_after_an_outage_reads_succeed_within_the_probe_interval(sick: dict[str, Fault], seed: int) -> None:
    everybody = dict.fromkeys(NAMES, Fault.REFUSED)
    back = 60.0
    world = World(
        _chain(seed), lambda now, route: _behaviour([everybody | sick], 0, route) if now < back else None
    )
    policy = Policy()
    for index in range(400):
        world.request(index / 4, path=f"data/{index}")
    # an attempt that began before the path came back may have to end first
    late = [one for one in world.run() if one.began >= back + policy.silence_last + policy.probe_max]
    assert late
    assert [one for one in late if one.error is not None] == []
