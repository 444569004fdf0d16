"""`lazyfs`: finds the module of a command, runs the command, and turns errors into one line."""

import gc
import importlib
import io
import sys
from collections.abc import Callable
from typing import Any

import click

from lazyfs.cli.say import say, say_refusal
from lazyfs.core.errors import LazyfsError
from lazyfs.system import clean_start
from lazyfs.system.command_line import hide_accounts

COMMANDS: dict[str, str] = {
    "repo": "Make a repository, renew its expiry, replace its keys.",
    "publish": "Publish images and trees into a store.",
    "sync": "Publish what wishlists ask for, and take out what none does.",
    "when": "Say since when an image is there, or why it is not.",
    "inspect": "Show an image's configuration, layers, sizes and platforms.",
    "diff": "List the differences between two images or revisions.",
    "profile": "Publish a profile of an image, for faster starts.",
    "rm": "Remove images from the tree.",
    "log": "List the revisions and the changes of each.",
    "rollback": "Show the content of an older revision again.",
    "gc": "Delete the objects that no kept revision needs.",
    "check": "Verify that everything in a store is there and right.",
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
    "top": "Show the activity of a mount, live.",
    "demo": "Publish, mount and run on this machine, with figures.",
}
"""Command name -> its help, in the order of `--help`. The module of that name has the click command, called
`command`, and is imported only when the command is run, so that start-up stays fast."""


class Commands(click.Group):
    """A group that imports the module of the requested command only."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(f"lazyfs.cli.{cmd_name.replace('-', '_')}").command
        gc.enable()
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

    `also_tell` gets the message of such an error too.
    """
    _begin()
    arguments: dict[str, Any] = {} if argv is None else {"args": argv}
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    try:
        result = lazyfs.main(standalone_mode=False, prog_name="lazyfs", **arguments)
    except click.exceptions.Abort:
        say("lazyfs: interrupted", err=True)
        return 130
    except click.ClickException as error:
        say_refusal(error)
        if also_tell:
            also_tell(error.format_message())
        return error.exit_code
    except LazyfsError as error:
        if debug:
            raise
        say(f"lazyfs: {error}", err=True)
        if also_tell:
            also_tell(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 141
    return result if isinstance(result, int) else 0


def _begin() -> None:
    clean_start.open_standard_streams()
    hide_accounts()
    clean_start.expect_children()
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:  # the stream was closed
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names are bytes that the locale may be unable to encode
            stream.reconfigure(errors="surrogateescape" if stream.encoding == "utf-8" else "backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
