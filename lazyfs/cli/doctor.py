"""`lazyfs doctor`: finds what is wrong with this machine and its mounts, and says what to do."""

from typing import TYPE_CHECKING

import click

from lazyfs.cli.say import say, say_json

if TYPE_CHECKING:
    from lazyfs.daemon.wanted_settings import WantedSettings

ILL = 1


@click.command("doctor")
@click.argument("mountpoint", required=False)
@click.option("--config", metavar="FILE", help="Also check what this file would mount, before it is mounted.")
@click.option("--json", "as_json", is_flag=True, help="The findings, as JSON.")
def command(mountpoint: str | None, config: str | None, as_json: bool) -> int:
    """Find what is wrong with this machine and its mounts, and say what to do.

    Looks at FUSE, namespaces, limits, mounts, sockets, the cache's disk, certificates, names, clock and
    trust. If root or the mount's user runs it, it also asks every origin over every proxy. Changes nothing.
    Exits 1 if there is an error or a warning.

    \b
    Examples:
      lazyfs doctor
      lazyfs doctor /mnt/unpacked
      lazyfs doctor --config /etc/lazyfs/site.toml
    """
    from lazyfs.node.doctor import CHECKS, examine
    from lazyfs.node.findings import Level
    from lazyfs.node.surroundings import look_around, mounts_at

    wanted = _of_file(config) if config else None
    found = look_around(mounts_at(mountpoint), wanted)
    findings = examine(found)
    if as_json:
        say_json(findings, indent=1)
    else:
        for finding in findings:
            say(f"{finding.level}: {finding.wrong}", f"  {finding.do}")
        counted = f"{len(CHECKS)} checks, {len(found.mounts)} mounts"
        say(f"{counted}: {len(findings)} findings" if findings else f"{counted}: nothing is wrong")
    return ILL if any(finding.level is not Level.NOTE for finding in findings) else 0


def _of_file(config: str) -> "WantedSettings":
    from lazyfs.daemon.wanted_settings import from_environment, wanted_settings

    variables = from_environment()
    return wanted_settings([], config, variables, variables)
