"""`lazyfs umount`: take a mount away."""

import click

from lazyfs.core.errors import UsageError


@click.command("umount")
@click.argument("mountpoint")
@click.option("--lazy", is_flag=True, help="Also while programs use it: they keep what they have open.")
def command(mountpoint: str, lazy: bool) -> None:
    """Unmount. Returns when the mount is gone and its daemon has ended; a lazy one at once."""
    from lazyfs.fuse import mountpoint as points
    from lazyfs.fuse.ending import wait_for_end

    path = points.absolute(mountpoint)
    there = points.find(path)
    if there is None:
        raise UsageError(f"{path} is not mounted")
    if there.fstype != points.FSTYPE:
        raise UsageError(f"{path} is no mount of lazyfs but {there.fstype}: use umount")
    wait_for_end(path, lambda: points.unmount(path, lazy=lazy), patiently=not lazy)
