"""The tables of the simulated site and of its validation, and the bounds that they are held to."""

from typing import Final

from benchmarks.site import starts
from benchmarks.site.result import Result, Row, Validation
from benchmarks.site.scenarios import LOSS, MORNING, QUIET, USER

QUIET_TIMES: Final = 1.05
"""Requests at the origin for each object that any worker of the site needed."""
LOSS_TIMES: Final = 2
SHARES: Final = {starts.PACKS: 1 / 6, starts.PROFILES: 1 / 20}
"""Requests at the proxies, as shares of those with one object per file."""
REQUESTS_APART: Final = 0.10
BYTES_APART: Final = 0.05
"""How far simulated and counted figures may be apart."""
_LAZYFS: Final = (starts.FILES, starts.PACKS, starts.PROFILES)
_NAMES: Final = {
    starts.PULL: "pull of layers",
    starts.SIF: "SIF file",
    starts.FILES: "one object per file",
    starts.PACKS: "packs",
    starts.PROFILES: "packs and profiles",
}


def document(result: Result) -> str:
    """Returns the result as Markdown."""
    head = (
        f"Command: `{result.command}`, at commit {result.facts.commit}; {result.workers:,} workers; starts "
        f"recorded at {result.recorded_at}.\n\n"
        "| scenario | images as | jobs | proxies: requests a job | MB a job | busy | origin: requests a job "
        "| MB a job | times an object: mean, most | hits: node | proxy | result: p50, p99 |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    )
    return head + "".join(map(_row, result.rows)) + "\n" + _shares(result)


def _row(row: Row) -> str:
    proxied = row.variant != starts.PULL
    cells = (
        row.scenario,
        _NAMES[row.variant],
        f"{row.jobs:,}",
        f"{row.proxy_requests / row.jobs:,.1f}" if proxied else "",
        f"{row.bytes_fetched / row.jobs / 1e6:,.1f}" if proxied else "",
        f"{row.proxy_busy:.1%}" if proxied else "",
        f"{row.origin_requests / row.jobs:,.2f}",
        f"{row.bytes_from_origin / row.jobs / 1e6:,.2f}",
        f"{row.times_per_object:.2f}, {row.most}",
        f"{row.node_hits / row.needed_objects:.1%}",
        f"{row.proxy_hits / row.proxy_requests:.1%}" if row.proxy_requests else "",
        f"{row.p50:.1f}, {row.p99:.1f} s",
    )
    return f"| {' | '.join(cells)} |\n"


def _shares(result: Result) -> str:
    text = "Requests at the proxies, as shares of those with one object per file:\n\n"
    text += "| scenario | packs | packs and profiles |\n|---|---:|---:|\n"
    for scenario in dict.fromkeys(row.scenario for row in result.rows):
        shares = [share(result.rows, scenario, variant) for variant in SHARES]
        text += f"| {scenario} | {' | '.join(f'1/{1 / one:.1f}' for one in shares)} |\n"
    return text


def share(rows: list[Row], scenario: str, variant: str) -> float:
    """Returns the proxies' requests of a scenario, as a share of those with one object per file."""
    count = {row.variant: row.proxy_requests for row in rows if row.scenario == scenario}
    return count[variant] / count[starts.FILES]


def missed(rows: list[Row]) -> list[str]:
    """Returns a line for each bound that a row does not keep."""
    found = []
    for row in rows:
        if row.variant not in _LAZYFS:
            continue
        if row.failed:
            found.append(f"{row.scenario}, {row.variant}: {row.failed} requests failed")
        if row.scenario in (QUIET, MORNING, USER) and row.times_per_object > QUIET_TIMES:
            found.append(f"{row.scenario}, {row.variant}: {row.times_per_object:.3f} times an object")
        if row.scenario == LOSS and row.most > LOSS_TIMES:
            found.append(f"{row.scenario}, {row.variant}: an object {row.most} times")
        most = SHARES.get(row.variant)
        if most is not None and (part := share(rows, row.scenario, row.variant)) > most:
            found.append(f"{row.scenario}, {row.variant}: 1/{1 / part:.1f} of the requests")
    return found


def validated(found: Validation) -> str:
    """Returns a validation as Markdown."""
    apart = found.differences()
    rows = "".join(
        f"| {name.replace('_', ' ')} | {getattr(found.counted, name):,} "
        f"| {getattr(found.simulated, name):,} | {apart[name]:+.1%} |\n"
        for name in apart
    )
    return (
        f"Command: `python -m benchmarks.site validate`; {found.mounts} mounts, {found.starts} starts.\n\n"
        f"| | counted | simulated | |\n|---|---:|---:|---:|\n{rows}"
    )


def too_far(found: Validation) -> list[str]:
    """Returns the names of the figures in which simulation and count are too far apart."""
    return [
        name
        for name, apart in found.differences().items()
        if abs(apart) > (BYTES_APART if name.endswith("bytes") else REQUESTS_APART)
    ]
