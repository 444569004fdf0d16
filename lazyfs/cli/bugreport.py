"""`lazyfs bugreport`: one archive for the person who is asked for help, without passwords and names."""

import time

import click

from lazyfs.cli.say import say


@click.command("bugreport")
@click.option("-o", "--output", metavar="FILE", help="The archive; lazyfs-bugreport-TIME.tar.gz by default.")
@click.option("--config", metavar="FILE", help="Settings of a mount that does not answer or cannot be made.")
def command(output: str | None, config: str | None) -> None:
    """Write the facts about this machine's mounts to one archive, for the person who is asked for help.

    Takes no longer than 30 s, even if mounts, disks and name service hang. The archive holds versions,
    settings, status, the doctor's findings, the ends of logs, mountinfo, and the requests that wait for
    daemons. Passwords, tokens, home directories and user names are taken out; host names and paths of images
    stay: look through it before you publish it.

    \b
    Example:
      lazyfs bugreport -o report.tar.gz
    """
    from lazyfs.daemon.wanted_settings import from_environment, wanted_settings
    from lazyfs.node import bugreport

    variables = from_environment()
    wanted = wanted_settings([], config, variables, variables) if config else None
    name = f"lazyfs-bugreport-{time.strftime('%Y%m%d-%H%M%S')}"
    path = output or f"{name}.tar.gz"
    bugreport.make(path, name, wanted)
    say(f"{path}: look through it, then attach it; tar tzf {path} lists what is in it")
