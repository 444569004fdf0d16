"""`lazyfs status`: shows the mounts and their health."""

from typing import TYPE_CHECKING, Any

import click

from lazyfs.cli.say import say, say_json

if TYPE_CHECKING:
    from lazyfs.core.errors import UsageError
    from lazyfs.daemon.status import MountStatus
    from lazyfs.system.mount_table import Mount

UNANSWERED = 1


@click.command("status")
@click.argument("mountpoint", required=False)
@click.option("--json", "as_json", is_flag=True, help="Everything the daemon knows, as JSON.")
def command(mountpoint: str | None, as_json: bool) -> int:
    """Show revision, proxies and origins, cache and counters of one mount, or of all.

    Everybody may see root's mounts; the mount of any other user answers only that user and root. Exits 1 if a
    mount does not answer.
    """
    from lazyfs.daemon import control_client
    from lazyfs.system import mountpoint as points

    if mountpoint is not None:
        return _one(control_client.mounted_at(mountpoint), as_json=as_json)
    mounts = [mount for mount in points.mounts() if mount.fstype == points.FSTYPE]
    answers = list(zip(mounts, control_client.status_each(mounts), strict=True))
    if as_json:
        say_json([_fields(mount, answer) for mount, answer in answers], indent=1)
    elif not mounts:
        say("nothing is mounted")
    else:
        _print(answers)
    return UNANSWERED if any(isinstance(answer, Exception) for _, answer in answers) else 0


def _one(mount: "Mount", *, as_json: bool) -> int:
    from lazyfs.cli.mount_text import status_lines
    from lazyfs.core.errors import UsageError
    from lazyfs.daemon import control_client

    try:
        answer: MountStatus | UsageError = control_client.status(mount)
    except UsageError as error:
        answer = error
    if as_json:
        say_json(_fields(mount, answer), indent=1)
    elif isinstance(answer, Exception):
        say(f"lazyfs: {answer}", err=True)
    else:
        say(*status_lines(answer))
    return UNANSWERED if isinstance(answer, Exception) else 0


def _fields(mount: "Mount", answer: "MountStatus | UsageError") -> dict[str, Any]:
    import msgspec

    if isinstance(answer, Exception):
        return {"ok": False, "mountpoint": mount.mountpoint, "error": str(answer)}
    return {"ok": True, **msgspec.to_builtins(answer)}


def _print(answers: "list[tuple[Mount, MountStatus | UsageError]]") -> None:
    from lazyfs.cli.mount_text import status_lines

    for number, (mount, answer) in enumerate(answers):
        if number:
            say("")
        if isinstance(answer, Exception):
            say(f"{mount.mountpoint}: {answer}")
        else:
            say(*status_lines(answer))
