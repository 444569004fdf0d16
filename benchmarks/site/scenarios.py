"""The scenarios: which jobs start where and when, what is new, and what is lost."""

import bisect
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from benchmarks.site import images, starts
from benchmarks.site.clock import Clock, Task
from benchmarks.site.images import Program, Units
from benchmarks.site.result import Row
from benchmarks.site.starts import Recording
from benchmarks.site.tiers import Origin, Proxy, Settings
from benchmarks.site.worker import Site, Worker

VARIANTS: Final = (starts.PULL, starts.SIF, *starts.VARIANTS)
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
NOON, BACK = 12 * HOUR, 14 * HOUR
NEVER: Final = 1e9
PULLED_BLOBS: Final = 5
"""Layers of a pulled image: one of five is new at night."""
QUIET, MORNING, USER = "quiet day", "morning after", "one user's hour"
LOSS, RETURN = "squid lost at noon", "squid lost at noon, back at two with an empty cache"


class Size(NamedTuple):
    """The size of a simulated site."""

    workers: int = 1000
    jobs: int = 24_000
    """Jobs of a day, and of the user."""
    morning_jobs: int = 8000
    images: int = images.IMAGES


class Job(NamedTuple):
    """A start: when, on which worker, of which image."""

    at: float
    worker: int
    image: int


class Totals(NamedTuple):
    """The counters of a site at one moment."""

    needed: int
    node_hits: int
    fetched: int
    proxy_requests: int
    proxy_hits: int
    bytes_fetched: int
    origin_requests: int
    origin_bytes: int
    hedges: int
    single: int
    failed: int


class Simulated:
    """A site with one way of bringing images, which goes through one scenario after the other."""

    def __init__(
        self,
        recording: Recording,
        variant: str,
        size: Size,
        settings: Settings,
        lost: tuple[tuple[float, float], ...] = (),
    ) -> None:
        self._variant = variant
        self._clock = Clock()
        self._origin = Origin(settings)
        self._proxies = [] if variant == starts.PULL else [
            Proxy(f"http://squid{number}.example.org:3128", settings, self._origin, lost if number else ())
            for number in range(2)
        ]  # fmt: skip
        site = Site(self._clock, settings, self._proxies, self._origin, hedged=variant in starts.VARIANTS)
        self._workers = [Worker(site, number) for number in range(size.workers)]
        self._images = programs(recording, variant, size.images)

    def run(self, scenario: str, jobs: list[Job], tag: int = 0) -> Row:
        """Runs jobs to their ends; returns the counts of these jobs alone."""
        before, seen = self._totals(), dict(self._origin.seen)
        busy = [proxy.busy for proxy in self._proxies]
        begun = self._clock.now
        times: list[float] = []
        for job in jobs:
            self._clock.start(self._job(job, tag, times), job.at)
        self._clock.run()
        took = max(self._clock.now - max(begun, jobs[0].at), 1.0)
        count = [after - old for after, old in zip(self._totals(), before, strict=True)]
        delta = Totals(*count)
        asked = [many - seen.get(path, 0) for path, many in self._origin.seen.items()]
        asked = [many for many in asked if many]
        times.sort()
        return Row(
            scenario=scenario,
            variant=self._variant,
            jobs=len(jobs),
            needed_objects=delta.needed,
            node_hits=delta.node_hits,
            fetched_objects=delta.fetched,
            proxy_requests=delta.proxy_requests,
            proxy_hits=delta.proxy_hits,
            bytes_fetched=delta.bytes_fetched if self._proxies else delta.origin_bytes,
            origin_requests=delta.origin_requests,
            bytes_from_origin=delta.origin_bytes,
            origin_objects=len(asked),
            most=max(asked, default=0),
            hedges=delta.hedges,
            single=delta.single,
            failed=delta.failed,
            p50=times[len(times) // 2],
            p99=times[len(times) * 99 // 100],
            proxy_busy=max(
                ((proxy.busy - old) / took for proxy, old in zip(self._proxies, busy, strict=True)),
                default=0.0,
            ),
        )

    def _job(self, job: Job, tag: int, times: list[float]) -> Task:
        program = self._images[job.image][tag]
        yield from self._workers[job.worker].start(program, times, profile=self._variant == starts.PROFILES)

    def _totals(self) -> Totals:
        workers, proxies = self._workers, self._proxies
        return Totals(
            sum(worker.objects for worker in workers),
            sum(worker.hits for worker in workers),
            sum(worker.fetched for worker in workers),
            sum(proxy.requests for proxy in proxies),
            sum(proxy.hits for proxy in proxies),
            sum(proxy.bytes for proxy in proxies),
            self._origin.requests,
            self._origin.bytes,
            sum(worker.chain.hedges.started for worker in workers),
            sum(worker.single for worker in workers),
            sum(worker.failed for worker in workers),
        )


def programs(recording: Recording, variant: str, count: int) -> list[tuple[Program, Program]]:
    """Returns the images of a site, each before and after a night."""
    units = Units(1 if variant == starts.PROFILES else images.UNIT)
    large = {one.image: one for one in recording.images}
    made = []
    for image in range(count):
        program = images.PROGRAMS[image % len(images.PROGRAMS)]
        if variant in starts.VARIANTS:
            made.append(images.tags(recording.start(program, variant), image, units))
            continue
        of = large[starts.image_of(program)]
        blobs, size = (
            (PULLED_BLOBS, (of.compressed_bytes, of.unpacked_bytes))
            if variant == starts.PULL
            else (1, (of.sif_bytes, of.sif_bytes))
        )
        made.append(images.pulled(recording.start(program, variant), image, size, blobs, units))
    return made


def drawn(size: Size, jobs: int, begin: float, end: float, seed: int, image: int | None = None) -> list[Job]:
    """Returns jobs at random times on random workers, of images by Zipf's law or of one image."""
    draw, weights = random.Random(seed), images.popularity(size.images)
    order = random.Random(1).sample(range(size.images), size.images)

    def chosen() -> int:
        if image is not None:
            return image
        return order[min(bisect.bisect(weights, draw.random() * weights[-1]), size.images - 1)]

    times = sorted(draw.uniform(begin, end) for _ in range(jobs))
    return [Job(at, draw.randrange(size.workers), chosen()) for at in times]


def simulate(
    recording: Recording, variant: str, size: Size, settings: Settings, done: Callable[[Row], None]
) -> None:
    """Runs all scenarios of one way of bringing images; calls `done` with each row.

    The morning follows the quiet day on the same nodes; the others begin with empty caches.
    """
    site = Simulated(recording, variant, size, settings)
    done(site.run(QUIET, drawn(size, size.jobs, 0.0, DAY, 1)))
    done(site.run(MORNING, drawn(size, size.morning_jobs, DAY + 8 * HOUR, DAY + 9 * HOUR, 2), tag=1))
    for scenario, back in ((LOSS, NEVER), (RETURN, BACK)):
        site = Simulated(recording, variant, size, settings, lost=((NOON, back),))
        done(site.run(scenario, drawn(size, size.jobs, 0.0, DAY, 1)))
    site = Simulated(recording, variant, size, settings)
    done(site.run(USER, drawn(size, size.jobs, 0.0, HOUR, 3, image=0)))
