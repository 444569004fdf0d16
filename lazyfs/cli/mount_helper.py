"""The helper of `mount -t lazyfs`: mount(8), fstab and autofs call it as /sbin/mount.lazyfs SOURCE DIRECTORY
-o OPTIONS."""

import getopt
import os
import sys
import syslog

from lazyfs.cli.quick import main as lazyfs
from lazyfs.core.errors import UsageError
from lazyfs.core.printable import escaped
from lazyfs.daemon.mount_options import MOUNT_OPTIONS
from lazyfs.system.mountpoint import absolute, is_automounted

FLAGS = {option.name for option in MOUNT_OPTIONS if option.kind is bool}
VALUES = {option.name for option in MOUNT_OPTIONS if option.kind is not bool} | {"config"}
IGNORED = (
    "ro", "rw", "defaults", "auto", "noauto", "nouser", "users", "nofail", "_netdev", "nosuid", "nodev",
    "exec", "noatime", "relatime", "async", "allow_other",
)  # fmt: skip
"""Options that are ignored, because mount(8) and fstab handle them or because they hold for every mount."""
NO_SOURCE = ("none", "lazyfs")
"""Values of SOURCE that stand for no URL, for mounts whose repositories are in the `config` file. If the
working directory has a file of that name, mount(8) turns the value into an absolute path."""


def arguments(argv: list[str]) -> list[str]:
    """Translates the arguments from mount(8) into those of `lazyfs mount`. Raises UsageError."""
    try:
        found, places = getopt.gnu_getopt(argv, "sfnvrwo:t:N:")
    except getopt.GetoptError as error:
        raise UsageError(f"mount.lazyfs: {error}") from None
    if len(places) != 2:
        raise UsageError("mount.lazyfs: give SOURCE and DIRECTORY, as in: mount -t lazyfs URL /mnt")
    source, directory = places
    made = []
    for option in ",".join(value for flag, value in found if flag == "-o").split(","):
        name, equals, value = option.partition("=")
        name = name.replace("_", "-") if name.replace("_", "-") in VALUES else name
        if name in FLAGS and not equals:
            made.append(f"--{name}")
        elif name in VALUES and value:
            made += [f"--{name}", value]
        elif name and name not in IGNORED and not name.startswith(("x-", "comment")):
            raise UsageError(f"mount.lazyfs: option {option!r} is unknown; see lazyfs mount --help")
    named = source in NO_SOURCE or ("--config" in made and source in map(os.path.realpath, NO_SOURCE))
    return ["mount", *([] if named else [source]), directory, *made]


def main() -> int:
    """Runs as /sbin/mount.lazyfs. mount(8) shows its output and passes its exit code on.

    An automounter shows no output, so the reason of a failed mount is also written to the system log. An
    automounter may also ask again for a mount that was just made, if programs came meanwhile. It is told that
    the mount is there; after a failure, it would tell these programs that the directory does not exist.
    """

    def log(priority: int, message: str) -> None:
        # mount(8) passes SOURCE DIRECTORY first; the source may hold a password.
        syslog.syslog(priority, escaped(": ".join((*sys.argv[2:3], message))))

    def failed(reason: str) -> None:
        if _is_there(sys.argv[2]):
            log(syslog.LOG_INFO, "is mounted already")
            os._exit(0)  # as the command ends, which does not return
        log(syslog.LOG_ERR, reason)

    syslog.openlog("mount.lazyfs", syslog.LOG_PID, syslog.LOG_DAEMON)
    try:
        translated = arguments(sys.argv[1:])
    except UsageError as error:
        from lazyfs.cli.say import say  # click, which most mounts do without

        say(str(error), err=True)
        log(syslog.LOG_ERR, str(error))
        return error.exit_code
    return lazyfs(translated, failed)


def _is_there(directory: str) -> bool:
    """Returns True if an automounter's mount on the directory answers."""
    try:
        return is_automounted(absolute(directory))
    except UsageError:  # a filesystem on the way does not answer
        return False


if __name__ == "__main__":
    sys.exit(main())
