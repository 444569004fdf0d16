"""`lazyfs umount`: take a mount away."""

import click

from lazyfs.cli.say import say
from lazyfs.core.errors import UsageError


@click.command("umount")
@click.argument("mountpoint", required=False)
@click.option("--config", metavar="FILE", help="TOML file that names the mount point.")
@click.option("--lazy", is_flag=True, help="Also while programs use it: their open files stay readable.")
def command(mountpoint: str | None, config: str | None, lazy: bool) -> None:
    """Unmount. Returns when the mount is gone and its daemon has ended; with --lazy, at once.

    The mount of a daemon that does not answer is taken away under the programs that use it.
    """
    from lazyfs.daemon.settings_input import load
    from lazyfs.daemon.unmount import unmount
    from lazyfs.system import mountpoint as points

    where = mountpoint or (load(config).get("mountpoint") if config else None)
    if not where:
        raise UsageError("no mount point: write lazyfs umount MOUNTPOINT")
    path = points.absolute(str(where))
    there = points.find(path)
    if there is None:
        raise UsageError(f"{path} is not mounted")
    if there.fstype != points.FSTYPE:
        raise UsageError(f"{path} is no mount of lazyfs but {there.fstype}: use umount")
    told = unmount(there, lazy=lazy)
    if told:
        say(f"lazyfs: {path}: {told}", err=True)
