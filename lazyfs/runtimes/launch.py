"""The description of a start: a command in a root filesystem, and the parts of the host that the command may
see."""

import os
import resource
from collections.abc import Mapping
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.limits import Limits
from lazyfs.runtimes.pinned_root import PinnedRoot
from lazyfs.runtimes.records import NOTHING, checked

LONGEST = (1 << 17) - 1
"""The largest number of bytes in one argument, or in a variable with its name: MAX_ARG_STRLEN with pages of 4
KiB, less the NUL."""
_MOST = 6 << 20
_OF_A_RUNTIME = 16 << 10
_NOBODY = (1 << 32) - 1
"""The id of no user or group, (uid_t)-1: setresuid(2) and its like take it for "leave the id as it is", which
would be root's."""


def check_argument(text: str, where: str, *, secret: bool = False) -> str:
    """Returns the text. Raises UsageError for a text that cannot be passed to a program; the message begins
    with `where`, and repeats the text unless it is `secret`.

    A NUL would end the text and begin another argument, which a runtime may take for one of its options.
    """
    shown = "it" if secret else f"{text!a}"
    if "\0" in text:
        raise UsageError(f"{where}: {shown} has a NUL in it")
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: {shown} cannot be handed to a program: {error.reason}") from None
    if size > LONGEST:
        raise UsageError(
            f"{where}: {size} bytes, and Linux hands a program {LONGEST} at most in one piece; "
            f"put it into a file"
        )
    return text


def check_user(user: tuple[int, int], where: str) -> None:
    """Checks a user id and a group id. Raises UsageError for one that no user or group can have; the message
    begins with `where`."""
    for number in user:
        if not 0 <= number < _NOBODY:
            raise UsageError(f"{where}: {number} is no user or group: their numbers are 0 to {_NOBODY - 1}")


def most_bytes() -> int:
    """Returns the number of bytes that a program's arguments and variables may have together: a quarter of
    its stack or 6 MiB, whichever is less (execve(2)), minus the bytes that a runtime adds."""
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    most = _MOST if stack == resource.RLIM_INFINITY else min(max(stack // 4, LONGEST + 1), _MOST)
    return most - _OF_A_RUNTIME


@checked
class Bind(NamedTuple):
    """A file or directory of the host that is shown in the image."""

    source: str
    target: str
    """The path at which the program sees the bind: absolute and normalised. The image need not have it."""
    read_only: bool = False
    required: bool = False
    """True to refuse the start if the source is missing; False to leave the bind out with a warning."""

    def check(self) -> None:
        check_argument(self.source, "bind source")
        check_argument(self.target, "bind target")
        normal = "/" + os.path.normpath(self.target).lstrip("/")
        if self.target != normal or normal == "/":
            raise UsageError(f"bind target {self.target!r} must be an absolute path below /, such as /data")


@checked
class Launch(NamedTuple):
    """One start. Paths are str; names that are not UTF-8 are decoded by os.fsdecode.

    A runtime learns everything about the image and from the caller through a Launch. So its constructor
    checks every field, and raises UsageError for an invalid one.
    """

    root: str
    """The image's root filesystem on the host, links in its path resolved."""
    command: tuple[str, ...]
    environment: Mapping[str, str] = NOTHING
    """The program's whole environment: the caller's own is not added."""
    workdir: str = "/"
    binds: tuple[Bind, ...] = ()
    network: bool = True
    """True for the machine's network; False for a network namespace with only a loopback interface."""
    user: tuple[int, int] | None = None
    """The user id and group id with which root starts the program; None for the caller's own ids."""
    scratch: str = ""
    """Path of a directory for the runtime's own files. It does not exist yet; it is made and removed with the
    start."""
    pinned: PinnedRoot | None = None
    """The root, held open since it was found; None if nobody else can change its path."""
    limits: Limits = Limits()
    gpus: tuple[str, ...] = ()
    """The kinds of GPU that the program uses: `nv`, `rocm`."""
    as_root: bool = False
    """True if the program is root outside its namespaces too. In places that no namespace divides, the kernel
    then treats it as root."""

    @property
    def is_file(self) -> bool:
        """True if the image is a SIF file."""
        return os.path.isfile(self.root)

    @property
    def identity(self) -> tuple[int, int]:
        """The user id and group id with which the program is started."""
        return (os.geteuid(), os.getegid()) if self.user is None else self.user

    def check(self) -> None:
        check_argument(self.root, "image")
        check_argument(self.workdir, "working directory")
        if self.user is not None:
            check_user(self.user, "user")
        if not self.workdir.startswith("/"):
            raise UsageError(f"working directory {self.workdir!r} must be an absolute path")
        if not self.command or not self.command[0]:
            raise UsageError("the command is empty; write one: lazyfs run IMAGE -- COMMAND")
        for number, argument in enumerate(self.command):
            check_argument(argument, f"argument {number} of the command")
        for name, value in self.environment.items():
            check_argument(name, "name of a variable")
            if not name or "=" in name:
                raise UsageError(f"{name!a} cannot be the name of a variable")
            check_argument(f"{name}={value}", f"variable {name!a}", secret=True)
        texts = (*self.command, *(f"{name}={value}" for name, value in self.environment.items()))
        total = sum(len(os.fsencode(text)) + 9 for text in texts)  # a NUL and a pointer each
        if total > most_bytes():
            raise UsageError(
                f"the command and its {len(self.environment)} variables take {total} bytes, and Linux hands "
                f"a program {most_bytes()} at most; leave some out, or raise the stack's limit (ulimit -s)"
            )


_MODES = {"ro", "rw", "required"}


def parse_bind(text: str) -> Bind:
    """Parses `SRC[:DST[:MODE]]`, the form of every container tool; DST defaults to SRC, and MODE is `ro`,
    `rw` or `required`, or two of them with a comma. Raises UsageError."""
    parts = text.split(":")
    modes = parts[2].split(",") if len(parts) == 3 else ["rw"]
    if len(parts) > 3 or not parts[0] or not _MODES.issuperset(modes) or {"ro", "rw"}.issubset(modes):
        raise UsageError(f"bind {text!r}: write SRC, SRC:DST, SRC:DST:ro or SRC:DST:ro,required")
    target = os.path.normpath(parts[1] if len(parts) > 1 and parts[1] else os.path.abspath(parts[0]))
    if not target.startswith("/") or target == "/":
        raise UsageError(f"bind {text!r}: the target {target!r} must be an absolute path below /")
    return Bind(os.path.abspath(parts[0]), "/" + target.lstrip("/"), "ro" in modes, "required" in modes)
