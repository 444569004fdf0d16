"""`lazyfs showconfig`: shows each setting of a mount, and where its value comes from."""

from typing import TYPE_CHECKING

import click

from lazyfs.cli.say import say, say_json
from lazyfs.core.errors import UsageError

if TYPE_CHECKING:
    from lazyfs.daemon.wanted_settings import WantedSettings


@click.command("showconfig")
@click.argument("mountpoint", required=False)
@click.option("--config", metavar="FILE", help="Show what mount --config FILE would take, without mounting.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the origin in fields.")
def command(mountpoint: str | None, config: str | None, as_json: bool) -> None:
    """Show every setting of a mount and where it comes from: default, file and line, command line, variable.

    Only a mount's own user and root can ask for the settings that it was mounted with. Passwords are left
    out.

    \b
    Examples:
      lazyfs showconfig /mnt/unpacked
      lazyfs showconfig --config /etc/lazyfs/site.toml
    """
    from lazyfs.daemon.shown_settings import shown_settings

    found = shown_settings(*_wanted(mountpoint, config))
    if as_json:
        say_json(found, indent=1)
        return
    for setting in found:
        value = "" if setting.value is None or setting.value == "" else _shown(setting.value)
        meaning = f"({setting.meaning})" if setting.meaning and setting.meaning != value else ""
        say(f"{setting.name} = {' '.join(filter(None, (value, meaning))) or '(none)'}  # {setting.origin}")


def _wanted(mountpoint: str | None, config: str | None) -> "WantedSettings":
    from lazyfs.daemon import control_client
    from lazyfs.daemon.wanted_settings import from_environment, wanted_settings

    if config is None:
        if mountpoint is None:
            raise UsageError("write lazyfs showconfig MOUNTPOINT, or --config FILE for one to be mounted")
        return control_client.settings(control_client.mounted_at(mountpoint))
    variables = from_environment()
    return wanted_settings([mountpoint] if mountpoint else [], config, variables, variables)


def _shown(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
