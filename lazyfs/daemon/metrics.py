"""The daemon's numbers in Prometheus' text format, made from the same values as `lazyfs status`."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from lazyfs.core.errors import UsageError
from lazyfs.daemon.metrics_address import address_of
from lazyfs.daemon.metrics_server import answer
from lazyfs.daemon.status import CounterStatus, MountStatus, RepositoryStatus
from lazyfs.fuse.counters import BOUNDS

_CACHE = {
    "charged": ("gauge", "Bytes the cache takes on its disk"),
    "limit": ("gauge", "Bytes the cache may take"),
    "entries": ("gauge", "Objects in the cache"),
    "pinned": ("gauge", "Bytes that are never evicted"),
    "hits": ("counter", "Objects and parts of objects that the cache had"),
    "misses": ("counter", "Those that it had not"),
    "read_bytes": ("counter", "Bytes that the cache handed out"),
    "evictions": ("counter", "Objects evicted"),
    "admitted": ("counter", "Objects admitted"),
    "refused": ("counter", "Objects not admitted"),
    "damaged": ("counter", "Objects found wrong on the disk"),
}
_GUESSES = {
    "guessed": "Objects fetched on a guess",
    "guessed_bytes": "Plaintext bytes fetched on a guess",
    "used": "Guessed objects that were read later",
    "used_bytes": "Their plaintext bytes",
    "dropped": "Guesses that were over the budget or had no room",
}
_CHAIN = {
    "requests": "Objects and metadata asked for",
    "attempts": "Attempts over some proxy and origin",
    "failed_requests": "Requests that no path could answer",
    "hedges": "Second attempts because the first was slow",
    "healed": "Objects that came right after a wrong copy had been refused",
}


class _MountMetrics(Collector):
    def __init__(self, status: Callable[[], MountStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        counters = status.counters
        upcalls = CounterMetricFamily("lazyfs_upcalls", "Requests from the kernel", labels=["type"])
        for name, count in counters.upcalls.items():
            upcalls.add_metric([name], count)
        yield upcalls
        faults = CounterMetricFamily("lazyfs_faults", "Calls that failed with EIO", labels=["kind"])
        for kind, count in counters.faults.items():
            faults.add_metric([kind], count)
        yield faults
        yield CounterMetricFamily("lazyfs_misses", "Objects that calls waited for", value=counters.misses)
        yield CounterMetricFamily(
            "lazyfs_read_bytes", "File bytes handed to the kernel", value=counters.read_bytes
        )
        yield CounterMetricFamily(
            "lazyfs_fetched_bytes", "Plaintext bytes waited for", value=counters.fetched_bytes
        )
        yield CounterMetricFamily(
            "lazyfs_invalidations", "Notifications to the kernel", value=counters.notified
        )
        yield _waits(counters)
        off = status.cache.state.startswith("off")
        yield GaugeMetricFamily("lazyfs_cache_on", "0 if there is no cache, or it failed", value=not off)
        for name, (kind, help_text) in _CACHE.items():
            family = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
            yield family(f"lazyfs_cache_{name}", help_text, value=getattr(status.cache, name))
        yield from _repositories(status.repositories)


def _waits(counters: CounterStatus) -> Metric:
    total, buckets = 0, []
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], counters.waits, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return HistogramMetricFamily(
        "lazyfs_wait_seconds",
        "How long calls waited for objects, once each round",
        buckets=buckets,
        sum_value=counters.wait_seconds,
    )


def _repositories(repositories: dict[str, RepositoryStatus]) -> Iterator[Metric]:
    revision = GaugeMetricFamily("lazyfs_revision", "Revision shown", labels=["repository"])
    published = GaugeMetricFamily(
        "lazyfs_revision_time_seconds", "When it was published", labels=["repository"]
    )
    stale = GaugeMetricFamily("lazyfs_stale", "1 while no newer revision can be had", labels=["repository"])
    up = GaugeMetricFamily(
        "lazyfs_path_up", "1 while a proxy or origin works", labels=["repository", "kind", "name"]
    )
    path_bytes = CounterMetricFamily(
        "lazyfs_path_bytes",
        "Bytes that came over a proxy or from an origin",
        labels=["repository", "kind", "name"],
    )
    path_faults = CounterMetricFamily(
        "lazyfs_path_faults",
        "Failed attempts over a proxy or origin, by fault; the cause may lie elsewhere",
        labels=["repository", "kind", "name", "fault"],
    )
    chain = {
        name: CounterMetricFamily(f"lazyfs_chain_{name}", text, labels=["repository"])
        for name, text in _CHAIN.items()
    }
    guesses = {
        name: CounterMetricFamily(f"lazyfs_guesses_{name}", text, labels=["repository"])
        for name, text in _GUESSES.items()
    }
    for name, repository in repositories.items():
        for field, family in guesses.items():
            family.add_metric([name], getattr(repository.guesses, field))
        revision.add_metric([name], repository.revision)
        published.add_metric([name], repository.published)
        stale.add_metric([name], bool(repository.warning))
        report = repository.chain
        if report is None:
            continue
        for member in report.members:
            path = [name, member.kind, member.name]
            up.add_metric(path, member.state == "up")
            path_bytes.add_metric(path, member.bytes)
            for fault, count in member.faults.items():
                path_faults.add_metric([*path, fault], count)
        for field, family in chain.items():
            family.add_metric([name], getattr(report, field))
    yield from (revision, published, stale, up, path_bytes, path_faults)
    yield from chain.values()
    yield from guesses.values()


def serve(listen: str, status: Callable[[], MountStatus]) -> Callable[[], None]:
    """Answers GET /metrics on `listen` (HOST:PORT) in threads of its own; returns a function that ends them.

    Raises UsageError if the address is invalid or in use.
    """
    from prometheus_client import make_wsgi_app

    address = address_of(listen)
    registry = CollectorRegistry()
    registry.register(_MountMetrics(status))
    try:
        return answer(address.host, address.port, make_wsgi_app(registry))
    except (ValueError, OSError, OverflowError) as error:
        raise UsageError(f"--metrics {listen}: {error}; give HOST:PORT") from None
