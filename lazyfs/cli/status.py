"""`lazyfs status`: what mounts there are and how they fare."""

import json
from typing import Any

import click

from lazyfs.core.errors import UsageError


@click.command("status")
@click.argument("mountpoint", required=False)
@click.option("--json", "as_json", is_flag=True, help="Everything the daemon knows, as JSON.")
def command(mountpoint: str | None, as_json: bool) -> None:
    """Show revision, cache and counters of one mount, or of all."""
    from lazyfs.daemon import control
    from lazyfs.system import mountpoint as points

    if mountpoint is not None:
        path = points.absolute(mountpoint)
        there = points.find(path)
        if there is None or there.fstype != points.FSTYPE:
            raise UsageError(f"{path} is no mount of lazyfs; lazyfs status lists those there are")
        found = control.ask(path, {"do": "status"})
        click.echo(json.dumps(found, indent=1) if as_json else _text(found))
        return
    all_found = []
    for mount in points.mounts():
        if mount.fstype == points.FSTYPE:
            try:
                all_found.append(control.ask(mount.mountpoint, {"do": "status"}))
            except UsageError as error:
                all_found.append({"ok": False, "mountpoint": mount.mountpoint, "error": str(error)})
    if as_json:
        click.echo(json.dumps(all_found, indent=1))
    else:
        click.echo("\n\n".join(_text(found) for found in all_found) or "nothing is mounted")


def _text(found: dict[str, Any]) -> str:
    if not found.get("ok"):
        return f"{found['mountpoint']}: {found['error']}"
    counters, cache = found["counters"], found["cache"]
    lines = [
        f"{found['mountpoint']}: {found['source']} ({found['session']}, pid {found['pid']}, "
        f"up {found['uptime']:.0f} s)"
    ]
    for name, repository in found["repositories"].items():
        lines.append(f"  {name}: revision {repository['revision']} from {repository['url']}")
        if repository["warning"]:
            lines.append(f"    warning: {repository['warning']}")
    if cache["state"].startswith("off"):
        lines.append(f"  cache: {cache['state']}")
    else:
        lines.append(
            f"  cache: {cache['charged'] / 2**20:.0f} of {cache['limit'] / 2**20:.0f} MiB, "
            f"{cache['entries']} objects, {cache['hits']} hits, {cache['misses']} misses"
        )
    upcalls = ", ".join(f"{name} {count}" for name, count in counters["upcalls"].items())
    lines.append(f"  upcalls: {upcalls or 'none'}")
    lines.append(f"  read: {counters['read_bytes']} bytes; waited for {counters['misses']} objects")
    if counters["faults"]:
        faults = ", ".join(f"{kind} {count}" for kind, count in counters["faults"].items())
        lines.append(f"  faults: {faults}")
    return "\n".join(lines)
