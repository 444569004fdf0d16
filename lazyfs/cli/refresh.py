"""`lazyfs refresh`: looks for a new revision now."""

import click

from lazyfs.cli.say import say
from lazyfs.core.errors import LazyfsError


@click.command("refresh")
@click.argument("mountpoint")
def command(mountpoint: str) -> None:
    """Look for a new revision of each repository of a mount. If there is one, the mount shows it at once."""
    from lazyfs.daemon import control_client

    said = control_client.refresh(control_client.mounted_at(mountpoint))
    for name, news in said.items():
        say(f"{name}: {news}")
    failed = [name for name, news in said.items() if news.startswith("failed")]
    if failed:
        raise LazyfsError(f"no news of {', '.join(failed)}; the mount goes on with its present revision")
