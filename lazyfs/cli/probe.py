"""`lazyfs probe`: tells in one line, and by its exit code, whether mounts are well."""

import click

from lazyfs.cli.say import say


class _Misuse(click.UsageError):
    """A wrong command line. It exits with 3 (UNKNOWN), because click's own exit code, 2, would mean that the
    mount is dead."""

    exit_code = 3


class _Plugin(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _Misuse(error.format_message(), ctx) from None


@click.command("probe", cls=_Plugin)
@click.argument("mountpoint", required=False)
def command(mountpoint: str | None) -> int:
    """Tell in one line if a mount is well, or all mounts are; for the health checks of nodes.

    Ends within 5 s, also on a mount that hangs. The exit code is that of a Nagios plugin: 0 all is well, 1
    programs are served but something needs a look (an outage, an expired repository, a cache that is off), 2
    the mount is missing, dead or hangs, 3 nothing was found out.

    \b
    Example:
      lazyfs probe /mnt/unpacked
    """
    from lazyfs.node.probe import probe

    found = probe(mountpoint)
    say(f"{found.verdict.name}: {found.text}")
    return int(found.verdict)
