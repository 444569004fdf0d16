"""`lazyfs mount`: a repository, or a folder of them, as a directory."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lazyfs.cli.say import say
from lazyfs.cli.setting_options import setting_options

if TYPE_CHECKING:
    from lazyfs.daemon.setting_origins import Origin
    from lazyfs.daemon.settings import Settings


@click.command("mount")
@click.argument("places", nargs=-1, metavar="[URL|STORE|@FILE] MOUNTPOINT")
@setting_options()
@click.option("--foreground", is_flag=True, help="Stay in the terminal; ctrl-C unmounts.")
@click.option("--config", metavar="FILE", help="TOML file with these options and [repositories].")
def command(places: tuple[str, ...], foreground: bool, config: str | None, **options: Any) -> None:
    """Mount a repository. Returns when the mount answers; unmount with `lazyfs umount`.

    \b
    Examples:
      lazyfs mount http://origin.example/unpacked /cvmfs/unpacked.example.org --trust root.json
      lazyfs mount --config /etc/lazyfs/site.toml /cvmfs
    """
    from lazyfs.daemon import detach, process
    from lazyfs.daemon.own_files import check_own_files
    from lazyfs.daemon.wanted_settings import wanted_settings

    context = click.get_current_context()
    by_variable = [
        name for name in options if context.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    ]
    wanted, origins = wanted_settings(places, config, options, by_variable)
    check_own_files(wanted, origins, keeps_directory=foreground)
    if foreground:
        _stay(wanted, origins)
    else:
        notes = detach.run(
            lambda ready, line: process.run(wanted, origins, ready, wanted.log, line),
            wanted.log,
            keeper=not wanted.no_keeper,
        )
        _say_notes(notes)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # taking the modules down one by one would add to every mount


def _stay(settings: "Settings", origins: "dict[str, Origin]") -> None:
    """Serves the mount in this process. Under systemd, takes over the mount of the unit's previous process if
    there is one."""
    from lazyfs.daemon import process
    from lazyfs.daemon.log import DaemonLog
    from lazyfs.daemon.survival import descriptor_store
    from lazyfs.daemon.survival.keeper_line import KeeperLine

    def ready(notes: Sequence[str]) -> None:
        _say_mounted(settings.mountpoint, notes)
        if store is not None:  # systemd, Type=notify
            store.tell("READY=1")

    address = os.environ.get("NOTIFY_SOCKET")
    store = descriptor_store.DescriptorStore(address) if address else None
    taken = descriptor_store.taken_mount(settings, origins)
    if taken is not None and store is not None:
        process.resume(taken, store, DaemonLog(None), ready)
    else:
        process.run(settings, origins, ready, None, store or KeeperLine(None))


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"lazyfs: {note}", err=True)


def _say_mounted(mountpoint: str, notes: Sequence[str]) -> None:
    _say_notes(notes)
    say(f"lazyfs: {mountpoint} is mounted", err=True)
