"""`lazyfs status`: which mounts there are and how they fare."""

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lazyfs.core.errors import UsageError
    from lazyfs.daemon.status import MountStatus
    from lazyfs.system.mountpoint import Mount


@click.command("status")
@click.argument("mountpoint", required=False)
@click.option("--json", "as_json", is_flag=True, help="Everything the daemon knows, as JSON.")
def command(mountpoint: str | None, as_json: bool) -> None:
    """Show revision, cache and counters of one mount, or of all."""
    import msgspec

    from lazyfs.daemon import control_client
    from lazyfs.system import mountpoint as points

    if mountpoint is not None:
        found = control_client.status(control_client.mounted_at(mountpoint))
        click.echo(
            json.dumps({"ok": True, **msgspec.to_builtins(found)}, indent=1) if as_json else _text(found)
        )
        return
    mounts = [mount for mount in points.mounts() if mount.fstype == points.FSTYPE]
    answers = list(zip(mounts, control_client.status_each(mounts), strict=True))
    if as_json:
        click.echo(json.dumps([_fields(mount, answer) for mount, answer in answers], indent=1))
        return
    texts = [
        f"{mount.mountpoint}: {answer}" if isinstance(answer, Exception) else _text(answer)
        for mount, answer in answers
    ]
    click.echo("\n\n".join(texts) or "nothing is mounted")


def _fields(mount: "Mount", answer: "MountStatus | UsageError") -> dict[str, Any]:
    import msgspec

    if isinstance(answer, Exception):
        return {"ok": False, "mountpoint": mount.mountpoint, "error": str(answer)}
    return {"ok": True, **msgspec.to_builtins(answer)}


def _text(found: "MountStatus") -> str:
    counters, cache = found.counters, found.cache
    lines = [
        f"{found.mountpoint}: {found.source} ({found.session}, pid {found.pid}, up {found.uptime:.0f} s)"
    ]
    for name, repository in found.repositories.items():
        lines.append(f"  {name}: revision {repository.revision} from {repository.url}")
        if repository.warning:
            lines.append(f"    warning: {repository.warning}")
    if cache.state.startswith("off"):
        lines.append(f"  cache: {cache.state}")
    else:
        lines.append(
            f"  cache: {cache.charged / 2**20:.0f} of {cache.limit / 2**20:.0f} MiB, "
            f"{cache.entries} objects, {cache.hits} hits, {cache.misses} misses"
        )
    upcalls = ", ".join(f"{name} {count}" for name, count in counters.upcalls.items())
    lines.append(f"  upcalls: {upcalls or 'none'}")
    lines.append(f"  read: {counters.read_bytes} bytes; waited for {counters.misses} objects")
    if counters.faults:
        faults = ", ".join(f"{kind} {count}" for kind, count in counters.faults.items())
        lines.append(f"  faults: {faults}")
    return "\n".join(lines)
