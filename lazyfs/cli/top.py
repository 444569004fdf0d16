"""`lazyfs top`: what a mount does, live."""

import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lazyfs.daemon.status import MountStatus


@click.command("top")
@click.argument("mountpoint")
@click.option("--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many looks.")
def command(mountpoint: str, interval: float, count: int | None) -> None:
    """Show upcalls, misses, bytes and paths of a mount per second. Ctrl-C ends it."""
    from rich.live import Live

    from lazyfs.daemon import control_client

    mount = control_client.mounted_at(mountpoint)
    before = control_client.status(mount)
    looks = 0
    with Live(_table(before, before, interval), auto_refresh=False) as live:
        while count is None or looks < count:
            time.sleep(interval)
            now = control_client.status(mount)
            live.update(_table(before, now, max(now.uptime - before.uptime, 0.1)), refresh=True)
            before = now
            looks += 1


def _table(before: "MountStatus", now: "MountStatus", seconds: float) -> Any:
    from rich.table import Table

    table = Table(title=f"{now.mountpoint}  {now.source}  {now.session}  pid {now.pid}")
    for heading in ("", "total", "per second"):
        table.add_column(heading, justify="left" if not heading else "right")
    for label, old, new in _rows(before, now):
        table.add_row(label, f"{new:,}", f"{(new - old) / seconds:,.1f}")
    for name, repository in now.repositories.items():
        table.add_section()
        table.add_row(name, f"revision {repository.revision}", repository.warning or "fresh")
        for member in repository.chain.members if repository.chain else ():
            table.add_row(f"  {member.kind} {member.name}", member.state, member.why)
    return table


def _rows(before: "MountStatus", now: "MountStatus") -> list[tuple[str, int, int]]:
    """Returns (label, count before, count now) for each line."""
    old, new = before.counters, now.counters
    rows = [(name, old.upcalls.get(name, 0), number) for name, number in new.upcalls.items()]
    fields = ("misses", "fetched_bytes", "read_bytes", "interrupted")
    rows += [(field.replace("_", " "), getattr(old, field), getattr(new, field)) for field in fields]
    rows += [(f"fault {kind}", old.faults.get(kind, 0), number) for kind, number in new.faults.items()]
    fields = ("charged", "evictions", "hits", "misses")
    return rows + [
        (f"cache {field}", getattr(before.cache, field), getattr(now.cache, field)) for field in fields
    ]
