"""Medians, ratios and a table from the rounds of the filesystem benchmark."""

from statistics import median
from typing import Any

Rounds = dict[str, list[dict[str, dict[str, float]]]]
"""Server -> a dict for each round: row -> {"value", "cpu", "daemon_cpu"}."""
Medians = dict[str, dict[str, dict[str, float]]]
"""Server -> row -> {"value", "cpu", "daemon_cpu"}."""
KINDS = ("direct", "pyfuse3", "squashfuse_ll", "ext4")
BEATS = {
    "stat, dropped": ("squashfuse_ll", 0.17),
    "missing name": ("squashfuse_ll", 0.21),
    "open+read+close, dropped": ("squashfuse_ll", 0.70),
    "open+read+close, repeated": ("squashfuse_ll", 0.85),
    "find, dropped": ("squashfuse_ll", 2.7),
    "stat, repeated": ("ext4", 1.5),
    "missing name, repeated": ("ext4", 1.5),
    "find, repeated": ("ext4", 1.5),
    "find -size, repeated": ("ext4", 1.5),
    "tar, repeated": ("ext4", 1.5),
    "large file, repeated": ("ext4", 1.5),
}
"""Row -> (server, bound). The figure of lazyfs's direct session, divided by that of the server, must not
exceed the bound. The bounds for squashfuse_ll are the ratios that CVMFS's C++ client reached on such a
tree."""


def medians(rounds: Rounds) -> Medians:
    """Returns the median of each value over the rounds."""
    found: Medians = {}
    for server, of_server in rounds.items():
        found[server] = {
            row: {
                what: round(median(one[row][what] for one in of_server), 3)
                for what in ("value", "cpu", "daemon_cpu")
            }
            for row in of_server[0]
        }
    return found


def judge(found: Medians) -> list[dict[str, Any]]:
    """Returns the ratios reached in time and in CPU time, for each row that has a bound."""
    judged = []
    for row, (peer, bound) in [*BEATS.items(), ("open+read+close, repeated", ("ext4", 1.5))]:
        if "direct" not in found or peer not in found:
            continue
        ratio, cpu = (
            round(found["direct"][row][what] / found[peer][row][what], 3) for what in ("value", "cpu")
        )
        judged.append({"row": row, "to": peer, "bound": bound, "ratio": ratio, "cpu_ratio": cpu})
    return judged


def table(found: Medians) -> str:
    """Returns a Markdown table of wall time, and of the CPU time of program and daemon together. The unit is
    microseconds per operation, but seconds for `find`, `tar` and the large file."""
    kinds = [kind for kind in KINDS if kind in found]
    lines = ["| | " + " | ".join(kinds) + " | " + " | ".join(f"{kind}, CPU" for kind in kinds) + " |"]
    lines.append("|" + "---|" * (2 * len(kinds) + 1))
    for row in found[kinds[0]]:
        values = [found[kind][row][what] for what in ("value", "cpu") for kind in kinds]
        lines.append(f"| {row} | " + " | ".join(f"{value:.3g}" for value in values) + " |")
    return "\n".join(lines)


def verdict(judged: list[dict[str, Any]]) -> str:
    """Returns a Markdown table of the bounds and the ratios reached."""
    lines = ["| row | direct session, ratio to | bound | reached | in CPU time |", "|---|---|---|---|---|"]
    for one in judged:
        said = "" if one["ratio"] < one["bound"] else " (not below)"
        lines.append(
            f"| {one['row']} | {one['to']} | {one['bound']} | {one['ratio']}{said} | {one['cpu_ratio']} |"
        )
    return "\n".join(lines)


def floors(programs: Medians, found: Medians) -> str:
    """Returns a Markdown table of the rows about names, for the direct session and for the programs that
    answer from a table."""
    rows = ("stat, dropped", "missing name")
    lines = ["| pinned, us (ratio to squashfuse_ll) | " + " | ".join(rows) + " |", "|---|---|---|"]
    told = {"direct session": found["direct"]} if "direct" in found else {}
    for name, measured in (told | {f"C, {name}": measured for name, measured in programs.items()}).items():
        cells = []
        for row in rows:
            peer = found.get("squashfuse_ll", {}).get(row)
            value = measured[row]["value"]
            cells.append(f"{value:.3g} ({value / peer['value']:.3f})" if peer else f"{value:.3g}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
