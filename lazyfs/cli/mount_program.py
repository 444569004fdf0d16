"""Carries out `lazyfs mount`: mounts in the background, or in the terminal."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lazyfs.cli.options import Option
from lazyfs.daemon.mount_options import MOUNT_OPTIONS, MountOption
from lazyfs.daemon.wanted_settings import from_environment, wanted_settings

if TYPE_CHECKING:
    from lazyfs.daemon.setting_origins import Origin
    from lazyfs.daemon.settings import Settings
    from lazyfs.daemon.survival.keeper_line import KeeperLine


def _option(setting: MountOption) -> Option:
    return Option(
        (f"--{setting.name}",),
        setting.field,
        f"{setting.help_text} [{setting.default}]",
        metavar=setting.metavar or None,
        is_flag=setting.kind is bool,
        choices=setting.choices,
        kind=setting.kind,
    )


OPTIONS = (
    *map(_option, MOUNT_OPTIONS),
    Option(("--foreground",), "foreground", "Stay in the terminal; ctrl-C unmounts.", is_flag=True),
    Option(("--config",), "config", "TOML file with these options and [repositories].", metavar="FILE"),
)
"""The options of `lazyfs mount`."""


def mount_program(places: Sequence[str], *, foreground: bool, config: str | None, **values: Any) -> None:
    """Carries out `lazyfs mount PLACES` with the values of OPTIONS. Returns when the mount answers; with
    `foreground` when it is gone. Raises LazyfsError."""
    from lazyfs.daemon.own_files import check_own_files

    variables = from_environment()
    options = given_options(values)
    by_variable = variables.keys() - options.keys()
    settings, origins = wanted_settings(places, config, variables | options, by_variable)
    check_own_files(settings, origins, keeps_directory=foreground)
    if foreground:
        _stay(settings, origins)
    else:
        _start(settings, origins)


def given_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that were given on the command line. `values`: every option; None, or False for a
    flag, if it was not given."""
    return {name: value for name, value in values.items() if value is not None and value is not False}


def _start(settings: "Settings", origins: "dict[str, Origin]") -> None:
    from lazyfs.daemon import detach

    def work(ready: detach.Ready, line: "KeeperLine") -> None:
        from lazyfs.daemon import process  # after the fork: a small process forks cheaply

        process.run(settings, origins, ready, settings.log, line)

    notes = detach.run(work, settings.log, keeper=not settings.no_keeper)
    _say_notes(notes)


def _stay(settings: "Settings", origins: "dict[str, Origin]") -> None:
    """Serves the mount in this process. Under systemd, takes over the mount of the unit's previous process if
    there is one."""
    from lazyfs.daemon import process
    from lazyfs.daemon.log import DaemonLog
    from lazyfs.daemon.survival import descriptor_store
    from lazyfs.daemon.survival.keeper_line import KeeperLine

    def ready(notes: Sequence[str]) -> None:
        _say_notes([*notes, f"{settings.mountpoint} is mounted"])
        if store is not None:  # systemd, Type=notify
            store.tell("READY=1")

    address = os.environ.get("NOTIFY_SOCKET")
    store = descriptor_store.DescriptorStore(address) if address else None
    taken = descriptor_store.taken_mount(settings, origins)
    if taken is not None and store is not None:
        process.resume(taken, store, DaemonLog(None), ready)
    else:
        process.run(settings, origins, ready, None, store or KeeperLine(None))


def _say_notes(notes: Sequence[str]) -> None:
    if notes:
        from lazyfs.cli.say import say  # click, which most mounts do without

        say(*(f"lazyfs: {note}" for note in notes), err=True)
