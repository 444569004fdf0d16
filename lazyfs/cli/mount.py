"""`lazyfs mount`: a repository, or a folder of them, as a directory."""

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from lazyfs.cli.say import say
from lazyfs.cli.setting_options import setting_options


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
        process.run(wanted, origins, lambda notes: _say_mounted(wanted.mountpoint, notes), None)
    else:
        notes = detach.run(lambda ready: process.run(wanted, origins, ready, wanted.log), wanted.log)
        _say_notes(notes)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # taking the modules down one by one would add to every mount


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"lazyfs: {note}", err=True)


def _say_mounted(mountpoint: str, notes: Sequence[str]) -> None:
    _say_notes(notes)
    say(f"lazyfs: {mountpoint} is mounted", err=True)
    notify = os.environ.get("NOTIFY_SOCKET")
    if notify:  # systemd, Type=notify; sd_notify(3)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(b"READY=1", "\0" + notify[1:] if notify.startswith("@") else notify)
