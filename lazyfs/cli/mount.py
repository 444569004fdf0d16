"""`lazyfs mount`: a repository, or a folder of them, as a directory."""

from typing import Any

import click

from lazyfs.cli.click_options import with_options
from lazyfs.cli.mount_program import OPTIONS, mount_program


@click.command("mount")
@click.argument("places", nargs=-1, metavar="[URL|STORE|@FILE] MOUNTPOINT")
@with_options(OPTIONS)
def command(places: tuple[str, ...], **values: Any) -> None:
    """Mount a repository. Returns when the mount answers; unmount with `lazyfs umount`.

    \b
    Examples:
      lazyfs mount http://origin.example/unpacked /cvmfs/unpacked.example.org --trust root.json
      lazyfs mount --config /etc/lazyfs/site.toml /cvmfs
    """
    mount_program(places, **values)
