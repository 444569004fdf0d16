"""`lazyfs exec`: runs a command with mounts that only this command sees."""

import os
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from lazyfs.cli.say import say
from lazyfs.cli.setting_options import setting_options
from lazyfs.core.errors import UsageError


@click.command("exec", context_settings={"ignore_unknown_options": False})
@click.argument("arguments", nargs=-1, required=True, metavar="-- COMMAND...")
@click.option(
    "--mount",
    "mounts",
    multiple=True,
    required=True,
    metavar="URL=DIR",
    help="Mount a repository (a URL, a store) at an absolute path, which need not exist; may be repeated.",
)
@setting_options()
@click.option("--config", metavar="FILE", help="TOML file with the options of every mount.")
def command(arguments: tuple[str, ...], mounts: tuple[str, ...], config: str | None, **options: Any) -> int:
    """Run COMMAND with repositories mounted for it alone: no root, no install, nothing left behind.

    COMMAND keeps its user, working directory, environment, network and files, and sees the mounts in
    addition, also below directories that this machine does not have, such as /cvmfs. When COMMAND ends in any
    way, all that it started ends, and the mounts with it. The cache stays for the next command. Other options
    are those of `lazyfs mount`, for every mount.

    Exit code: the program's; 128+N if signal N ended it; 127 not found; 125 a mount could not be made.

    \b
    Example:
      lazyfs exec --mount http://origin.example/unpacked=/cvmfs/unpacked.example.org -- ./analysis.sh
    """
    from lazyfs.daemon import process
    from lazyfs.daemon.survival.keeper_line import KeeperLine
    from lazyfs.daemon.wanted_settings import wanted_settings
    from lazyfs.runtimes import beside_mounts
    from lazyfs.runtimes.mount_points import missing_points
    from lazyfs.system.clean_start import callers_environment

    context = click.get_current_context()
    by_variable = [
        name for name in options if context.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    ]
    wanted = [wanted_settings(_places(text), config, options, by_variable) for text in mounts]
    private = [
        beside_mounts.PrivateMount(
            settings.mountpoint,
            partial(process.run, settings, origins, log_file=settings.log, keeper=KeeperLine(None)),
            settings.log,
        )
        for settings, origins in wanted
    ]
    ended = beside_mounts.run(
        private,
        missing_points([mount.mountpoint for mount in private]),
        arguments,
        callers_environment(),
        lambda note: say(f"lazyfs: {note}", err=True),
    )
    return ended.exit_code


def _places(text: str) -> tuple[str, str]:
    """Returns (source, mount point) of `SOURCE=/PATH`; a source that is a URL may itself contain equal
    signs."""
    source, separator, path = text.rpartition("=/")
    if not separator or not source:
        raise UsageError(f"--mount {text!r}: write URL=/PATH, such as http://origin/repo=/cvmfs/repo")
    return source, os.path.normpath("/" + path)
