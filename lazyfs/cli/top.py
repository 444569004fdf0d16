"""`lazyfs top`: shows a mount's activity, live."""

import time

import click


@click.command("top")
@click.argument("mountpoint")
@click.option("--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many looks.")
def command(mountpoint: str, interval: float, count: int | None) -> None:
    """Show a mount's health and its activity per second. Ctrl-C ends it."""
    from rich.live import Live
    from rich.text import Text

    from lazyfs.cli.top_text import top_lines
    from lazyfs.daemon import control_client

    mount = control_client.mounted_at(mountpoint)
    before = control_client.status(mount)
    looks = 0
    with Live(Text(), auto_refresh=False) as live:
        while count is None or looks < count:
            time.sleep(interval)
            now = control_client.status(mount)
            lines = top_lines(before, now, max(now.uptime - before.uptime, 0.1))
            live.update(Text("\n".join(lines), no_wrap=True), refresh=True)
            before = now
            looks += 1
