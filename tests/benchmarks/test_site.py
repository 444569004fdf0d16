"""The simulated site: its clock, its caches, and what origin and proxies see of its workers."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.site import images, report, servers, starts
from benchmarks.site.clock import Clock, Signal, Task
from benchmarks.site.images import Units
from benchmarks.site.node_cache import NodeCache
from benchmarks.site.result import Counted, Row, Validation
from benchmarks.site.scenarios import LOSS, NEVER, Job, Simulated, Size
from benchmarks.site.starts import Fetch, Pulled, Recorded, Recording, Service
from benchmarks.site.tiers import Origin, Proxy, Settings
from benchmarks.site.worker import Part, Site, Worker
from lazyfs.client.unused_window import FREE

SERVICE = Service(0.0001, 1e-9)
SETTINGS = Settings(SERVICE, SERVICE)
SIZE = Size(workers=4, jobs=0, morning_jobs=0, images=3)


def recorded(program: str, variant: str, objects: int, size: int = 50_000) -> Recorded:
    """Returns a start that waits for every second object."""
    fetched = [Fetch(f"{number}", size // 2, size, number // 2) for number in range(objects)]
    return Recorded(program, variant, fetched, 4, 2.0, 1.0)


RECORDING = Recording(
    "0",
    [
        recorded(program, variant, objects)
        for program in ("analysis", "hello", "shell")
        for variant, objects in ((starts.FILES, 400), (starts.PACKS, 100), (starts.PROFILES, 50))
    ],
    [Pulled("analysis", 10, 4, 10, 30)],
    SERVICE,
    SERVICE,
)


class Bench:
    """One worker, or some, behind two proxies."""

    def __init__(self, workers: int = 1, lost: tuple[tuple[float, float], ...] = ()) -> None:
        self.clock = Clock()
        self.origin = Origin(SETTINGS)
        self.proxies = [
            Proxy("http://one:3128", SETTINGS, self.origin),
            Proxy("http://two:3128", SETTINGS, self.origin, lost),
        ]
        self.site = Site(self.clock, SETTINGS, self.proxies, self.origin)
        self.workers = [Worker(self.site, number) for number in range(workers)]
        self.times: list[float] = []


def program(objects: int, most: int = images.UNIT) -> images.Program:
    return programs(objects, most=most)[0]


def programs(*objects: int, most: int = images.UNIT) -> list[images.Program]:
    """Returns programs with so many objects each, which share nothing."""
    units = Units(most)
    made = []
    for number, count in enumerate(objects):
        start = recorded("analysis", starts.PACKS, count)
        fetched = units.of([(f"image {number}", one) for one in start.fetches])
        made.append(images.program_of(fetched, start, 1.0))
    return made


def test_tasks_go_on_at_their_times_and_at_signals() -> None:
    clock, signal, seen = Clock(), Signal(), []

    def waiting(name: str) -> Task:
        yield signal
        seen.append((clock.now, name))

    def firing() -> Task:
        yield clock.now + 2
        clock.fire(signal)

    clock.start(waiting("early"))
    clock.start(firing(), 5.0)
    clock.start(waiting("late"), 9.0)
    clock.run()
    assert seen == [(7.0, "early"), (9.0, "late")]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 200_000)), max_size=60))
def test_a_node_cache_keeps_its_limit_and_evicts_what_was_used_longest_ago(
    uses: list[tuple[int, int]],
) -> None:
    limit = 2 << 20
    cache = NodeCache(limit)
    order: list[int] = []
    for now, (value, charge) in enumerate(uses):
        if not cache.use(value, float(now)):
            assert cache.put(value, charge, 1, float(now))
        order = [one for one in order if one != value] + [value]
        assert cache.charged <= limit
        here = [one for one in order if cache.has(one)]
        assert here == order[len(order) - len(here) :]


def test_a_full_node_cache_evicts() -> None:
    cache = NodeCache(2 << 20)
    for value in range(30):
        assert cache.put(value, 100_000, 10, float(value))
    assert not cache.has(0)
    assert cache.has(29)
    assert cache.evicted > 0
    assert not cache.put(99, 3 << 20, 1, 31.0)


def test_a_unit_gives_the_chain_the_counts_of_single_requests() -> None:
    counts = []
    for most in (images.UNIT, 1):
        bench = Bench(2)
        started = program(64, most=most)
        for number, worker in enumerate(bench.workers):
            bench.clock.start(worker.start(started, bench.times), number * 100.0)
        bench.clock.run()
        second = bench.workers[1]
        assert second.single == 0
        chain = second.chain
        counts.append((chain.requests, chain.attempts, [(one.answers, one.bytes) for one in chain.groups[0]]))
        assert bench.workers[0].chain.requests == chain.requests
        assert bench.workers[0].single == 64
        assert [one.answers for one in bench.workers[0].chain.groups[0]] == [
            one.answers for one in chain.groups[0]
        ]
        assert sum(proxy.requests for proxy in bench.proxies) == 2 * bench.origin.requests == 128
    assert counts[0] == counts[1]


class SingleRequests(Worker):
    """A worker that makes every request by itself."""

    def _undisturbed(self, unit: images.Unit) -> list[Part]:
        return []


def test_units_change_no_count_of_a_day_on_which_a_proxy_is_lost() -> None:
    counts, singles = [], []
    for kind in (Worker, SingleRequests):
        bench = Bench(lost=((95.0, 600.0),))
        workers = [kind(bench.site, number) for number in range(8)]
        started = programs(100, 150, 200, most=16)
        for number in range(32):
            task = workers[number % 8].start(started[number % 3], bench.times)
            bench.clock.start(task, number * 31.0)
        bench.clock.run()
        answers = [sum(w.chain.groups[0][number].answers for w in workers) for number in range(2)]
        counts.append((answers, bench.origin.seen, [proxy.requests for proxy in bench.proxies]))
        singles.append(sum(worker.single for worker in workers))
    assert counts[0] == counts[1]
    assert singles[0] < 0.6 * singles[1] == 0.6 * sum(counts[1][0])


def test_two_starts_on_one_worker_fetch_each_object_once() -> None:
    bench = Bench()
    started = program(100)
    for at in (0.0, 0.01):
        bench.clock.start(bench.workers[0].start(started, bench.times), at)
    bench.clock.run()
    assert bench.workers[0].chain.requests == bench.workers[0].fetched == 100
    assert len(bench.times) == 2


def test_workers_that_start_at_one_moment_cost_the_origin_one_request_for_each_object() -> None:
    bench = Bench(20)
    started = program(100)
    for worker in bench.workers:
        bench.clock.start(worker.start(started, bench.times))
    bench.clock.run()
    assert set(bench.origin.seen.values()) == {1}
    assert sum(proxy.requests for proxy in bench.proxies) == 20 * 100


def test_objects_of_a_lost_proxy_are_fetched_over_the_other_one() -> None:
    for back, most in ((NEVER, 2), (200.0, 3)):
        bench = Bench(6, lost=((95.0, back),))
        started = program(100)
        for number, worker in enumerate(bench.workers):
            bench.clock.start(worker.start(started, bench.times), number * 47.0)
        bench.clock.run()
        assert max(bench.origin.seen.values()) == most
        assert min(bench.origin.seen.values()) == 1
        assert len(bench.times) == 6
        assert not any(worker.failed for worker in bench.workers)


def test_a_proxy_killed_under_way_fails_no_start() -> None:
    bench = Bench(1, lost=((1.5, NEVER),))
    bench.clock.start(bench.workers[0].start(program(400), bench.times))
    bench.clock.run()
    assert len(bench.times) == 1
    assert bench.workers[0].failed == 0
    assert bench.workers[0].chain.attempts > bench.workers[0].chain.requests == 400


def test_a_slow_answer_gets_a_hedge_within_the_budget() -> None:
    slow = SETTINGS._replace(origin_line=2.2e4)
    clock, origin = Clock(), Origin(slow)
    proxies = [Proxy(f"http://{name}:3128", slow, origin) for name in ("one", "two")]
    worker = Worker(Site(clock, slow, proxies, origin), 0)
    times: list[float] = []
    clock.start(worker.start(program(4), times))
    clock.run()
    assert worker.chain.hedges.started == 1
    assert sorted(origin.seen.values()) == [1, 1, 1, 2]


def test_a_profile_is_fetched_ahead_within_its_window() -> None:
    seconds = []
    for profile in (False, True):
        bench = Bench()
        started = program(200, most=1)
        bench.clock.start(bench.workers[0].start(started, bench.times, profile))
        if profile:
            early: list[int] = []

            def look(bench: Bench = bench, early: list[int] = early) -> Task:
                yield 0.005
                early.append(bench.workers[0].fetched)

            bench.clock.start(look())
        bench.clock.run()
        assert bench.workers[0].fetched == 200
        seconds.append(bench.times[0])
    assert 1 < early[0] <= FREE // 50_000
    assert seconds[1] < seconds[0]


def test_images_share_their_base_and_a_new_tag_most_of_its_objects() -> None:
    start, units = recorded("analysis", starts.FILES, 1000), Units()
    paths = [
        [
            {one.path for unit in tag.units for one in unit.objects}
            for tag in images.tags(start, number, units)
        ]
        for number in (0, images.FAMILY, 1)
    ]
    (old, new), (sibling, _), (stranger, _) = paths
    assert len(new) == len(old)
    assert 0 < len(new - old) < len(old) / 2
    assert len(old & sibling) > 100
    assert not old & stranger
    factors = [images.factor_of(number) for number in range(images.IMAGES)]
    assert 0.5 <= min(factors) < 0.7 < 1.4 < max(factors) <= 2


def test_the_morning_after_costs_the_origin_only_what_is_new() -> None:
    site = Simulated(RECORDING, starts.PACKS, SIZE, SETTINGS)
    jobs = [Job(10.0 * number, number % 4, number % 3) for number in range(24)]
    day = site.run("day", jobs)
    morning = site.run("morning", [job._replace(at=job.at + 1000) for job in jobs], tag=1)
    assert day.times_per_object == morning.times_per_object == 1
    assert 0 < morning.origin_requests < day.origin_requests / 2
    assert morning.node_hits > day.node_hits
    assert day.needed_objects == day.node_hits + day.fetched_objects
    assert day.proxy_requests == day.fetched_objects == day.proxy_hits + day.origin_requests


ROW = Row("quiet day", starts.PACKS, 1, 1, 0, 1, 150, 0, 1, 100, 1, 100, 2, 0, 0, 0, 1.0, 2.0, 0.1)


def test_each_bound_that_is_missed_is_named() -> None:
    files = msgspec.structs.replace(ROW, variant=starts.FILES, proxy_requests=1000)
    assert report.missed([files, ROW]) == []
    bad = [
        msgspec.structs.replace(ROW, origin_requests=106),
        msgspec.structs.replace(ROW, proxy_requests=170),
        msgspec.structs.replace(ROW, failed=1),
        msgspec.structs.replace(ROW, variant=starts.PROFILES, proxy_requests=51),
    ]
    for row in bad:
        assert len(report.missed([files, row])) == 1
    lost = [msgspec.structs.replace(row, scenario=LOSS, most=3) for row in (files, ROW)]
    assert len(report.missed(lost)) == 2


def test_a_validation_names_what_is_too_far_apart() -> None:
    counted = Counted(100, 1000, 50, 500)
    assert report.too_far(Validation(1, 1, counted, Counted(109, 1049, 46, 476))) == []
    found = report.too_far(Validation(1, 1, counted, Counted(111, 940, 44, 530)))
    assert found == ["proxy_requests", "proxy_bytes", "origin_requests", "origin_bytes"]


def test_requests_that_were_under_way_together_are_one_wave() -> None:
    name = "ab" + "0" * 61
    log = starts.read_log(
        f"100.300 0.050 200 9 /data/ab/{name[2:]}c\n"
        f"100.200 0.100 200 7 /data/ab/{name[2:]}a\n"
        f"100.110 0.000 200 8 /data/ab/{name[2:]}b\n"
        "100.000 0.000 200 5 /metadata/timestamp.json\n"
        f"100.400 0.000 200 7 /data/ab/{name[2:]}a\n"
    )
    plain = {f"{name}{letter}": 20 for letter in "abc"}
    found = starts.fetches(log, plain, 0.02)
    assert [(one.name[-1], one.stored, one.wave) for one in found] == [("a", 7, 2), ("b", 8, 2), ("c", 9, 3)]


def test_a_squid_log_gives_the_bytes_of_bodies() -> None:
    text = "1.000 TCP_HIT/200 500 400 http://o/data/ab/c\n1.000 NONE/000 0 0 error:accept-client-connection\n"
    assert servers.squid_lines(text) == [servers.Passed("TCP_HIT/200", 100, "http://o/data/ab/c")]
