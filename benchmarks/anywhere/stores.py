"""The same images published into a directory and into a bucket of a real radosgw."""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.params import Params, Revision
from lazyfs.images.publisher import publish
from lazyfs.repository import lifecycle
from lazyfs.repository.keys import Keys
from lazyfs.store import Store, create_store
from tests.support.buckets import new_place, open_place
from tests.support.memory_repository import OPTIONS, signers
from tests.support.oci_images import Built, entry, layer
from tests.support.radosgw import Radosgw, radosgw
from tests.support.s3_faults import S3Faults

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")


class _Repository:
    """A new repository in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        root, publisher, stamper = signers()
        self._keys = Keys([publisher, stamper])
        new = Revision("bench.example.org", 1, 0, ObjectRef(Digest(b""), 0), Params())
        lifecycle.begin(store, new, [root], 1, publisher, stamper, datetime.now(UTC), 3650)

    def publish(self, source: str, place: str) -> tuple[float, int]:
        """Publishes an image. Returns the duration in seconds, and the number of new objects."""
        options = replace(OPTIONS, place=place, workers=None)
        began = time.monotonic()
        report = publish(self._store, self._keys, [source], options, lambda: datetime.now(UTC))
        return time.monotonic() - began, report.new_objects


def measure_stores(directory: Path, megabytes: int, images: int, rounds: int) -> dict[str, Any]:
    """Publishes one large image into a directory and a bucket in turn, and then `images` small images that
    share a layer into a bucket, one after another. Returns the rates and the requests to the bucket."""
    count = max(1, round((megabytes * 100) ** 0.5))
    files = [entry(f"f{n}", data=Random(n).randbytes(n * 20_000)) for n in range(1, count + 1)]
    large = f"oci:{Built([layer(*files)], how='none').write_layout(directory / 'large')}"
    size = sum(len(data) for _, data in files)
    seconds: dict[str, list[float]] = {"directory": [], "bucket": []}
    with radosgw(directory) as server, S3Faults(server) as counter:
        for number in range(rounds):
            into = create_store(str(directory / f"store{number}"))
            seconds["directory"].append(_Repository(into).publish(large, "r.example/app:1")[0])
            bucket = open_place(server, new_place(server))
            seconds["bucket"].append(_Repository(bucket).publish(large, "r.example/app:1")[0])
        one = _counted(server, counter, [(large, "r.example/app:1")])
        small = [(_small(directory, number), f"r.example/app{number}:1") for number in range(images + 1)]
        many = _counted(server, counter, small)[1:]  # the first has the shared layer too
    rates = {f"{name}_mb_per_second": size / 1e6 / statistics.median(took) for name, took in seconds.items()}
    return {"large_bytes": size, "rounds": rounds, **rates, "large": one[0], "small": many}


def _small(directory: Path, number: int) -> str:
    base = layer(*[entry(f"base{n}", data=Random(n).randbytes(20_000)) for n in range(100)])
    own = layer(*[entry(f"own{n}", data=Random(number * 100 + n).randbytes(10_000)) for n in range(20)])
    return f"oci:{Built([base, own]).write_layout(directory / f'small{number}')}"


def _counted(server: Radosgw, counter: S3Faults, sources: list[tuple[str, str]]) -> list[dict[str, int]]:
    """Publishes images into a new bucket, one after another. Returns for each image the number of requests by
    method, their total, and the number of new objects."""
    repository = _Repository(open_place(server, new_place(server), counter.url))
    found = []
    for source, place in sources:
        counter.forget()
        _, objects = repository.publish(source, place)
        counts = Counter(counter.counts())
        assert set(counts) <= set(METHODS)
        found.append(
            {**{name: counts[name] for name in METHODS}, "requests": counts.total(), "objects": objects}
        )
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """Returns the lines of a table of the figures."""
    small = found["small"]
    median: Callable[[str], float] = lambda name: statistics.median(one[name] for one in small)  # noqa: E731
    rows = {
        f"one image of {found['large_bytes'] / 1e6:.0f} MB": found["large"],
        f"each of {len(small)} images with a layer of 0.2 MB of their own (median)": {
            name: median(name) for name in (*METHODS, "requests", "objects")
        },
    }
    both = found["directory_mb_per_second"], found["bucket_mb_per_second"]
    return [
        f"Publishing an image of {found['large_bytes'] / 1e6:.0f} MB, medians of {found['rounds']}: "
        f"{both[0]:.0f} MB/s into a directory, {both[1]:.0f} MB/s into a bucket of radosgw on this machine "
        f"({both[1] / both[0]:.2f}).",
        "",
        f"| published into a bucket | new objects | requests | {' | '.join(METHODS)} | requests per object |",
        f"|---|---|---|{'---|' * len(METHODS)}---|",
        *(
            f"| {name} | {row['objects']:.0f} | {row['requests']:.0f} "
            f"| {' | '.join(f'{row[method]:.0f}' for method in METHODS)} "
            f"| {row['requests'] / row['objects']:.2f} |"
            for name, row in rows.items()
        ),
    ]
