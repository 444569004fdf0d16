"""`lazyfs umount`: takes a mount away."""

import os

import click

from lazyfs.cli.say import say
from lazyfs.core.errors import UsageError


@click.command("umount")
@click.argument("mountpoint", required=False)
@click.option("--config", metavar="FILE", help="TOML file that names the mount point.")
@click.option("--lazy", is_flag=True, help="Also while programs use it: their open files stay readable.")
@click.option("--kill", is_flag=True, help="End the programs that use it first: SIGTERM, after 5 s SIGKILL.")
def command(mountpoint: str | None, config: str | None, lazy: bool, kill: bool) -> None:
    """Unmount. Returns when the mount is gone and its daemon has ended; with --lazy, at once.

    If programs use the mount it stays, and the message names them. But if the daemon is dead or does not
    answer, the mount is removed although programs use it.

    \b
    Examples:
      lazyfs umount /mnt/unpacked
      lazyfs umount --kill /cvmfs
    """
    if lazy and kill:
        raise UsageError("--lazy leaves the programs alone and --kill ends them: give one of the two")
    from lazyfs.daemon.settings_input import load
    from lazyfs.daemon.unmount import unmount
    from lazyfs.system import mountpoint as points

    where = mountpoint or (load(config).get("mountpoint") if config else None)
    if not where:
        raise UsageError("no mount point: write lazyfs umount MOUNTPOINT")
    path = points.absolute(str(where))
    there = points.find(path)
    if there is None:
        raise UsageError(f"{path} is not mounted; lazyfs status lists the mounts of lazyfs")
    if there.fstype != points.FSTYPE:
        raise UsageError(f"{path} is no mount of lazyfs but {there.fstype}: use umount")
    os.chdir("/")  # this command must not be the one that uses the mount
    told = unmount(there, lazy=lazy, kill=kill)
    if told:
        say(f"lazyfs: {path}: {told}", err=True)
