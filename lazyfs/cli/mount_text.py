"""A mount's status as lines for people: health first, then costs."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from lazyfs.core.byte_size import shown_size
from lazyfs.core.chain.report import MemberReport
from lazyfs.daemon.status import CounterStatus, MountStatus, RepositoryStatus


def status_lines(found: MountStatus) -> list[str]:
    """Returns the lines that `lazyfs status` prints for a mount."""
    counters = found.counters
    upcalls = ", ".join(f"{name} {count}" for name, count in counters.upcalls.items())
    return [
        f"{found.mountpoint}: {found.source}",
        *(f"  {line}" for line in health_lines(found)),
        f"  read: {shown_size(counters.read_bytes)}; waited for {counters.misses} objects",
        *(f"  {line}" for line in _guesses(found)),
        f"  daemon: pid {found.pid}, up {shown_time(found.uptime)}, session {found.session}",
        f"  upcalls: {upcalls or 'none'}",
    ]


def _guesses(found: MountStatus) -> Iterator[str]:
    all_guesses = [repository.guesses for repository in found.repositories.values()]
    guessed, wasted = sum(one.guessed for one in all_guesses), sum(one.wasted for one in all_guesses)
    if guessed:
        size = shown_size(sum(one.guessed_bytes for one in all_guesses))
        unread = shown_size(sum(one.wasted_bytes for one in all_guesses))
        dropped = sum(one.dropped for one in all_guesses)
        yield (
            f"guessed: {guessed} object{'s' * (guessed != 1)}, {size}; not read so far: "
            f"{wasted} object{'s' * (wasted != 1)}, {unread}; not fetched: {dropped}"
        )


def health_lines(found: MountStatus) -> Iterator[str]:
    """Yields the lines of a mount's health: revisions, proxies and origins, the cache, faults, waits."""
    for name, repository in found.repositories.items():
        yield from _repository(name, repository)
    yield f"cache: {_cache(found)}"
    yield f"faults: {counted(found.counters.faults) or 'none'}"
    yield f"waiting: {'; '.join(_waits(found)) or 'nobody'}"
    if found.journal:
        yield f"warning: inode numbers are not written down: {found.journal}"


def counted(counts: Mapping[str, int]) -> str:
    """Returns counts as text, such as `kind 3, other 1`."""
    return ", ".join(f"{kind} {count}" for kind, count in counts.items())


def average_wait(before: CounterStatus, now: CounterStatus) -> float:
    """Returns the average duration, in seconds, of the waits between two snapshots."""
    rounds = sum(now.waits) - sum(before.waits)
    return (now.wait_seconds - before.wait_seconds) / rounds if rounds > 0 else 0.0


def shown_time(seconds: float) -> str:
    """Returns a time in the unit that fits, as in `35 s`, `4.2 min`, `3.1 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def shown_count(count: float) -> str:
    """Returns a number with at most three digits before its unit, as in `12`, `3.4k`, `1.2M`."""
    value, units = float(count), ("", "k", "M", "G", "T")
    for unit in units:
        if value < 999.5 or unit == units[-1]:
            break
        value /= 1000
    plain = value == int(value) if not unit else value >= 100
    return f"{value:.0f}{unit}" if plain else f"{value:.1f}{unit}"


def _repository(name: str, repository: RepositoryStatus) -> Iterator[str]:
    published = datetime.fromtimestamp(repository.published, UTC)
    yield f"{name}: revision {repository.revision} of {published:%Y-%m-%d %H:%M} UTC"
    if repository.warning:
        yield f"  warning: {repository.warning}"
    if repository.chain is None:
        yield f"  store {repository.url}"
        return
    if repository.chain.outage_seconds:
        yield f"  no path has worked for {shown_time(repository.chain.outage_seconds)}"
    for member in repository.chain.members:
        yield f"  {_member(member)}"


def _member(member: MemberReport) -> str:
    start = f"{member.kind} {member.name}: {member.state}"
    if member.state == "up":
        return start + (f", {member.latency_ms:.0f} ms" if member.latency_ms is not None else "")
    again = f"; tried again in {shown_time(member.retry_in)}" if member.retry_in else ""
    return f"{start} for {shown_time(member.for_seconds)}: {member.why}{again}"


def _cache(found: MountStatus) -> str:
    cache = found.cache
    if cache.state.startswith("off"):
        return cache.state
    state = "" if cache.state == "on" else f"{cache.state}, "
    return (
        f"{state}{shown_size(cache.charged)} of {shown_size(cache.limit)}, {shown_count(cache.entries)} "
        f"objects, {shown_count(cache.hits)} hits, {shown_count(cache.misses)} misses"
    )


def _waits(found: MountStatus) -> Iterator[str]:
    for name, waiting in found.waiting.items():
        calls = f"{waiting.calls} call{'s' * (waiting.calls != 1)}"
        objects = f"{waiting.objects} object{'s' * (waiting.objects != 1)}"
        yield f"{calls} for {objects} of {name}, the longest for {shown_time(waiting.longest)}"
