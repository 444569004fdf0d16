"""`lazyfs demo`: publishes, serves, mounts and runs an image on this machine, with figures."""

import click

from lazyfs.cli.say import say, say_json
from lazyfs.demo.commands import Way
from lazyfs.demo.report import lines
from lazyfs.demo.story import tell


@click.command()
@click.argument("source", required=False)
@click.argument("arguments", nargs=-1, metavar="[-- COMMAND...]")
@click.option(
    "--listen",
    default="127.0.0.1:0",
    metavar="HOST:PORT",
    help="Where the origin listens; port 0 takes any free one.  [127.0.0.1:0]",
)
@click.option("--url", metavar="URL", help="Mount this: a relay or proxy that leads to the origin.")
@click.option("--json", "as_json", is_flag=True, help="The figures as one JSON object.")
def command(
    source: str | None, arguments: tuple[str, ...], listen: str, url: str | None, as_json: bool
) -> None:
    """Publish an image, serve it, mount it, and run a program from it; print how little was fetched.

    Without SOURCE the image is this machine's own Python, and the time to fetch and unpack all of it is
    measured too.
    SOURCE is an image as for `lazyfs publish`; COMMAND is run in it (by default the image's own). Everything
    is made in a temporary directory and removed at the end.

    \b
    Examples:
      lazyfs demo
      lazyfs demo docker://alpine -- cat /etc/os-release
    """
    result = tell(source, arguments, lambda step: say(f"demo: {step}", err=True), Way(listen, url))
    if as_json:
        say_json(result)
        return
    for line in lines(result):
        say(line)
