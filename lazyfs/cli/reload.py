"""`lazyfs reload`: continues a live mount with another version of lazyfs, or with other settings."""

import time
from typing import Any

import click

from lazyfs.cli.say import say
from lazyfs.cli.setting_options import setting_options
from lazyfs.core.errors import LazyfsError, UsageError

SECONDS = 60.0
"""Seconds within which the new daemon has to serve the mount."""
LOOK = 0.05
LIVE = (
    "proxy", "ca", "client_cert", "client_key", "http", "cache_limit", "cache_policy", "cache_keep_free",
    "lower", "log", "trace", "metrics", "refresh", "patience", "max_stale",
    "prefetch_share", "on_outage",
)  # fmt: skip
"""The settings that a live mount can change."""


@click.command("reload")
@click.argument("mountpoint", required=False)
@click.option("--config", metavar="FILE", help="TOML file to read, by default that of the mount.")
@setting_options(*LIVE)
def command(mountpoint: str | None, config: str | None, **options: Any) -> None:
    """Replace the daemon of a live mount by one of this version of lazyfs, which reads the settings anew.

    Programs that use the mount go on. If the mount cannot be continued with this version and these settings,
    the old daemon stays, and the reason is printed.

    \b
    Examples:
      lazyfs reload /mnt/unpacked
      lazyfs reload --config /etc/lazyfs/unpacked.example.org.toml
      lazyfs reload /mnt/unpacked --proxy 'http://new-proxy.example:3128' --cache-limit 20G
    """
    from lazyfs.daemon import control_client
    from lazyfs.daemon.settings_input import load
    from lazyfs.daemon.survival.renewed_settings import renewed
    from lazyfs.system.own_python import PYTHON

    where = mountpoint or (load(config).get("mountpoint") if config else None)
    if not where:
        raise UsageError("no mount point: write lazyfs reload MOUNTPOINT")
    mount = control_client.mounted_at(str(where))
    new = renewed(control_client.settings(mount), config, options)
    before = control_client.status(mount).successions
    control_client.reload(mount, PYTHON, new)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            now = control_client.status(mount)
        except UsageError:  # the new daemon is starting
            time.sleep(LOOK)
            continue
        if now.successions > before:
            say(f"{mount.mountpoint}: served by a new daemon (pid {now.pid})")
            return
        time.sleep(LOOK)
    raise LazyfsError(
        f"{mount.mountpoint}: no new daemon serves after {SECONDS:g} s; lazyfs status tells more"
    )
