"""`lazyfs run`: starts a program from an image."""

from typing import Any

import click

from lazyfs.cli.click_options import with_options
from lazyfs.cli.run_program import OPTIONS, run_program


@click.command()
@click.argument("image", required=False)
@click.argument("arguments", nargs=-1, metavar="[-- COMMAND...]")
@with_options(OPTIONS)
def command(image: str | None, arguments: tuple[str, ...], **values: Any) -> int:
    """Run COMMAND (or the image's own) in IMAGE, isolated from this machine.

    IMAGE is a directory or SIF file (with a slash or dot in front), or a name in a repository mounted on this
    node. docker://NAME is looked up there first, and pulled if it is not there. An image given as
    https://...sif, oci:DIR[:TAG] or docker-archive:FILE is not looked up, but pulled. What was pulled is kept
    for the next jobs.

    \b
    The program sees the image read-only, an empty /tmp, /proc, /dev, and the binds of -B. A bind whose
    source does not exist is left out with a warning; a target that the image does not have is made.
    Exit code: the program's; 128+N if signal N ended it; 127 not found in the image; 125 the runtime failed.

    \b
    Example:
      lazyfs run library/python:3.11 --work "$PWD":/srv -- python3 analysis.py
    """
    return run_program(image, arguments, **values)
