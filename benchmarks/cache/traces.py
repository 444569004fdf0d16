"""Requests as a worker node makes them, and the hit ratios of each policy by requests and by bytes.

`jobs`: starts of containers from 40 images, chosen by Zipf's law. The images share base layers in families of
8. Each start of an image reads the same 300 to 900 objects, and then some more that differ from job to job.

`jobs+scan`: the same, but once in 100 starts a program (tar, updatedb) reads a whole image from end to end.

`jobs, drifting`: after every 150 starts, another image becomes the most popular one, and the previous
favourite is hardly started any more.

`zipf`: independent requests over 20,000 objects.

Sizes are log-normal with a median of 20 KiB, and at most 4 MiB.
"""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.cache.policies import POLICIES

SHARES = (0.05, 0.1, 0.25, 0.5)
"""Cache sizes, as fractions of the total size of all objects."""


class Result(NamedTuple):
    """The result of one policy on one trace. `share` is the cache's size as a fraction of the total size of
    all objects."""

    trace: str
    share: float
    policy: str
    requests: float
    """Hits as a fraction of all requests."""
    bytes: float
    """Bytes of the hits as a fraction of all bytes requested."""


class World:
    """Objects with sizes, and images made of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sizes: list[int] = []
        families = [self._objects(800) for _ in range(5)]
        self.images = [families[number % 5] + self._objects(1200) for number in range(40)]
        self.starts = [self.random.sample(image, self.random.randint(300, 900)) for image in self.images]

    def _objects(self, count: int) -> list[int]:
        first = len(self.sizes)
        self.sizes += [min(int(self.random.lognormvariate(9.9, 1.6)) + 64, 4 << 20) for _ in range(count)]
        return list(range(first, first + count))

    def popular(self, count: int) -> int:
        """Returns a number below `count`, drawn by Zipf's law with exponent 1."""
        return min(int(count ** self.random.random()) - 1, count - 1)

    def jobs(self, starts: int, *, scan_every: int = 0, drift_every: int = 0) -> Iterator[int]:
        for number in range(1, starts + 1):
            image = self.popular(len(self.images))
            if drift_every:
                image = (image + number // drift_every) % len(self.images)
            yield from self.starts[image]
            yield from self.random.sample(self.images[image], 100)
            if scan_every and number % scan_every == 0:
                yield from self.images[self.random.randrange(len(self.images))]

    def zipf(self, requests: int) -> Iterator[int]:
        for _ in itertools.repeat(None, requests):
            yield self.popular(20_000)


def compare(starts: int = 1500, seed: int = 1) -> list[Result]:
    """Runs every policy on every trace at every cache size."""
    results = []
    world = World(seed)
    traces = {
        "jobs": world.jobs(starts),
        "jobs+scan": world.jobs(starts, scan_every=100),
        "jobs, drifting": world.jobs(starts, drift_every=150),
        "zipf": world.zipf(starts * 500),
    }
    for name, requests in traces.items():
        trace = list(requests)
        for share in SHARES:
            capacity = int(sum(world.sizes) * share)
            results += [_run(name, share, policy, capacity, trace, world.sizes) for policy in POLICIES]
    return results


def _run(name: str, share: float, policy: str, capacity: int, trace: list[int], sizes: list[int]) -> Result:
    cache = POLICIES[policy](capacity)
    hits = hit_bytes = 0
    for key in trace:
        if cache.request(key, sizes[key]):
            hits += 1
            hit_bytes += sizes[key]
    return Result(name, share, policy, hits / len(trace), hit_bytes / sum(sizes[key] for key in trace))
