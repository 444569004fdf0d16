"""The tables of the pack benchmark."""

from typing import Final

from benchmarks.packs.result import Replay, Result, Start
from lazyfs.core.params import Params

LINES: Final = ((0.0, 1000.0), (10.0, 1000.0), (50.0, 100.0), (150.0, 100.0))
"""Lines as (round-trip time in ms, Mbit/s)."""
_CPU: Final = 0.0015
"""Processor time in seconds that the computed cost contains for each request."""


def cost(waits: int, requests: int, size: int) -> str:
    """Returns the computed seconds on each line: a round trip for each wait, the bytes at line rate, and
    processor time for each request."""
    return " | ".join(
        f"{waits * rtt / 1e3 + size * 8 / (mbit * 1e6) + requests * _CPU:.1f}" for rtt, mbit in LINES
    )


def _limits(params: Params) -> str:
    if not params.pack_files:
        return "one object a file | "
    range_ = f"{params.pack_least >> 10} to {params.pack_most >> 10}"
    return f"{params.pack_files >> 10} KiB | {params.pack_target >> 10} KiB, {range_}"


def _start(row: Start) -> str:
    return (
        f"| {_limits(row.params)} | {row.requests:,} | {row.waits:,} | {row.bytes_from_origin / 1e6:.0f} "
        f"| {row.disk_bytes / 1e6:.0f} | {row.store_files:,} | {row.store_bytes / 1e6:.0f} |\n"
    )


def _replay(row: Replay, single: Replay) -> str:
    cells = (
        _limits(row.params),
        f"{row.packs:,}",
        f"{row.small_bytes / 1e6:.0f}",
        f"{row.requests:,}",
        f"{row.waits:,}",
        f"{row.bytes / 1e6:.0f}",
        cost(row.waits, row.requests, row.bytes),
        *(
            f"{size / 1e6:.0f} ({size / before:.2f})"
            for size, before in zip(row.cached, single.cached, strict=True)
        ),
        str(row.random_requests),
        f"{row.random_bytes / 1e6:.1f}",
    )
    return f"| {' | '.join(cells)} |\n"


def document(result: Result) -> str:
    """Returns the result as Markdown."""
    lines = " | ".join(f"{rtt:g} ms, {mbit:g} Mbit/s" for rtt, mbit in LINES)
    return (
        f"Command: `{result.command}`, at commit {result.facts.commit}. "
        f"Image: {result.image.entries:,} entries, {result.image.unpacked_bytes / 1e6:,.0f} MB.\n\n"
        "Real cold starts of the analysis, everything included:\n\n"
        "| files up to | packs of about | requests | waits | MB fetched | MB on disk | files in the store "
        "| store, MB |\n|---|---|---:|---:|---:|---:|---:|---:|\n"
        + "".join(map(_start, result.starts))
        + "\nThe same reads replayed, without catalogs and read-ahead: small files on the left, seconds "
        f"computed from waits, bytes and {_CPU * 1e3:g} ms for each object, the MB fetched into caches of "
        "5, 10 and 25% of the image (and beside single files), and 200 small files read at random:\n\n"
        f"| files up to | packs of about | objects | MB stored | requests | waits | MB | {lines} "
        "| 5% | 10% | 25% | random: requests | MB |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        + "".join(_replay(row, result.replays[0]) for row in result.replays)
    )
