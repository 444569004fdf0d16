"""The screen of `lazyfs top`, as lines: health, then bytes and objects, then the kernel's requests."""

from collections.abc import Iterator

from lazyfs.cli.mount_text import average_wait, health_lines, shown_count, shown_time
from lazyfs.core.byte_size import shown_size
from lazyfs.core.printable import escaped
from lazyfs.daemon.status import MountStatus

WIDTH = 80
"""The number of columns of a terminal of the usual size."""


def top_lines(before: MountStatus, now: MountStatus, seconds: float) -> list[str]:
    """Returns the lines to show, from two snapshots taken `seconds` apart. Each line fits into WIDTH and is
    printable."""
    lines = [
        f"{now.mountpoint}: {now.source}",
        *health_lines(now),
        *_rates(before, now, seconds),
        *_kernel(before, now, seconds),
        f"daemon: pid {now.pid}, up {shown_time(now.uptime)}, session {now.session}",
    ]
    return [_fitted(escaped(line)) for line in lines]


def _fitted(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def _rates(before: MountStatus, now: MountStatus, seconds: float) -> Iterator[str]:
    old, new = before.counters, now.counters
    yield ""
    yield _row("", "total", "per second")
    for label, was, total in (
        ("read by programs", old.read_bytes, new.read_bytes),
        ("waited for", old.fetched_bytes, new.fetched_bytes),
    ):
        yield _row(label, shown_size(total), shown_size(int((total - was) / seconds)))
    for label, was, total in (
        ("objects waited for", old.misses, new.misses),
        ("cache hits", before.cache.hits, now.cache.hits),
        ("cache misses", before.cache.misses, now.cache.misses),
        ("cache evictions", before.cache.evictions, now.cache.evictions),
        ("failed calls", sum(old.faults.values()), sum(new.faults.values())),
        ("interrupted calls", old.interrupted, new.interrupted),
    ):
        yield _row(label, shown_count(total), shown_count(round((total - was) / seconds, 1)))
    yield f"average wait {1000 * average_wait(old, new):.0f} ms"


def _kernel(before: MountStatus, now: MountStatus, seconds: float) -> Iterator[str]:
    yield ""
    yield _row("requests of the kernel", "total", "per second")
    for name, total in now.counters.upcalls.items():
        rate = (total - before.counters.upcalls.get(name, 0)) / seconds
        yield _row(name, shown_count(total), shown_count(round(rate, 1)))
    yield ""


def _row(label: str, total: str, rate: str) -> str:
    return f"{label:<24}{total:>12}{rate:>14}"
