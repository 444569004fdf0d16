"""`lazyfs`: finds the module of a command, runs the command, and turns errors into one line."""

import gc
import importlib
import sys
from collections.abc import Callable
from typing import Any

import click

from lazyfs.cli.ends import begin, exit_code_of
from lazyfs.cli.say import say_refusal
from lazyfs.system.clean_start import raise_when_interrupted

COMMANDS: dict[str, str] = {
    "repo": "Make a repository, renew its expiry, replace its keys.",
    "publish": "Publish images and trees into a store.",
    "sync": "Publish what wishlists ask for, and take out what none does.",
    "listen": "Publish wished images as soon as registries tell of a push.",
    "plan": "Print what wishlists ask for, to be converted on many machines.",
    "convert": "Convert one shard of a plan.",
    "commit": "Publish what the shards of a plan have converted.",
    "when": "Say since when an image is there, or why it is not.",
    "inspect": "Show an image's configuration, layers, sizes and platforms.",
    "diff": "List the differences between two images or revisions.",
    "profile": "Make, show and drop profiles of images, for faster starts.",
    "collect": "Take workers' reports of starts, and publish profiles of them.",
    "rm": "Remove images from the tree.",
    "log": "List the revisions and the changes of each.",
    "rollback": "Show the content of an older revision again.",
    "gc": "Delete the objects that no kept revision needs.",
    "check": "Verify that everything in a store is there and right.",
    "mirror": "Copy a repository into another store.",
    "preload": "Copy a repository or images for nodes without a network.",
    "export": "Write an image as a layout, an archive or a SIF file.",
    "serve": "Serve a store over HTTP from this machine.",
    "mount": "Mount a repository.",
    "umount": "Unmount.",
    "status": "Show mounts, their health and their traffic.",
    "showconfig": "Show each setting of a mount and where it comes from.",
    "probe": "Tell in one line and an exit code if mounts are well.",
    "doctor": "Find what is wrong with this machine and its mounts.",
    "bugreport": "Write one archive for whoever is asked for help.",
    "reload": "Replace the daemon of a live mount.",
    "refresh": "Look for a new revision now.",
    "cache": "Look into this machine's cache, pin, evict, verify, resize.",
    "prefetch": "Fetch the rest of an image now.",
    "run": "Start a program from an image.",
    "prun": "Run a job in PanDA's notation, here or by a batch system.",
    "podman-store": "Give podman images of a mount, without pulling.",
    "exec": "Run a command beside mounts that only it sees.",
    "top": "Show the activity of a mount, live.",
    "demo": "Publish, mount and run on this machine, with figures.",
}
"""Command name -> its help, in the order of `--help`. The module with the command's name has the click
command in its variable `command`. It is imported only when the command is run, so that start-up stays
fast."""

_ENDED_BY_INTERRUPT = ("run", "exec")
"""Commands that SIGINT ends at once, as SIGTERM does, until the program is started. Until then they import
modules, and Python could lose the signal."""


class Commands(click.Group):
    """A click group that imports only the module of the requested command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(f"lazyfs.cli.{cmd_name.replace('-', '_')}").command
        gc.enable()
        if cmd_name not in _ENDED_BY_INTERRUPT:
            raise_when_interrupted()
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lazyfs")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def lazyfs(ctx: click.Context, debug: bool) -> None:
    """Run container images without pulling them: mount, fetch the bytes that are read, verify each.

    \b
    Example:
      lazyfs mount http://origin.example/unpacked /cvmfs/unpacked.example.org --trust root.json
      lazyfs run library/alpine:3.10.2 -- cat /etc/os-release
    """
    ctx.ensure_object(dict)["debug"] = debug


def main(argv: list[str] | None = None, also_tell: Callable[[str], None] | None = None) -> int:
    """Runs one command and returns its exit code; prints a LazyfsError as one line on stderr.

    `also_tell`: called with the message of such an error.
    """
    begin()
    arguments: dict[str, Any] = {} if argv is None else {"args": argv}
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    if debug:  # also errors that end one image only are logged with their traceback
        import logging

        logging.getLogger("lazyfs").setLevel(logging.DEBUG)

    def command() -> object:
        try:
            return lazyfs.main(standalone_mode=False, prog_name="lazyfs", **arguments)
        except click.exceptions.Abort:
            raise KeyboardInterrupt from None
        except click.ClickException as error:
            say_refusal(error)
            if also_tell:
                also_tell(error.format_message())
            return error.exit_code

    return exit_code_of(command, debug=debug, also_tell=also_tell)


if __name__ == "__main__":
    sys.exit(main())
