"""The levels of isolation that a caller can ask for, and the checks that a runtime has to pass for them.

The policy is WLCG's for user payloads: a mount and a pid namespace MUST hide the files and processes of other
payloads and of the pilot; an ipc namespace SHOULD hide their communication. The other checks are lazyfs's
own, and count as SHOULD.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

LEVELS: Final = ("none", "best", "wlcg", "full")
"""`none`: any isolation is enough. `best`: the most that is available here; the result names the checks that
fail. `wlcg`: a runtime that passes every MUST. `full`: one that passes every check, without network."""
PROBED: Final = ("wlcg", "full")
"""The levels for which a runtime is first probed from inside."""


class Check(NamedTuple):
    """The result of checking one promise of isolation, from inside a start of the runtime."""

    name: str
    must: bool
    passed: bool
    seen: str
    """The thing that the probe has seen and should not have, in words for people; empty if the check
    passed."""


def judge(outside: Mapping[str, Any], inside: Mapping[str, Any]) -> tuple[Check, ...]:
    """Returns the checks, judged by the answers of `inner_probe` from inside. `outside`: facts of the caller;
    its `namespaces` maps each kind to the id of the caller's namespace."""

    def other(kind: str) -> str:
        same = inside["namespaces"].get(kind) == outside["namespaces"].get(kind)
        return f"the caller's {kind} namespace" if same else ""

    found = (
        ("mount namespace", True, other("mnt")),
        ("files of others hidden", True, ", ".join(inside["files"])),
        ("pid namespace", True, other("pid")),
        ("processes of others hidden", True, ", ".join(f"process {pid}" for pid in inside["processes"])),
        ("ipc namespace", False, other("ipc")),
        ("abstract sockets hidden", False, "one of the caller's can be reached" if inside["socket"] else ""),
        ("environment clean", False, ", ".join(inside["variables"])),
        ("no new privileges", False, "" if inside["no_new_privileges"] else "set-user-id files give them"),
        ("no capability", False, "" if int(inside["capabilities"], 16) == 0 else inside["capabilities"]),
        ("root read-only", False, "files can be made in /" if inside["root_writable"] else ""),
    )
    return tuple(Check(name, must, not seen, seen) for name, must, seen in found)


def failures(checks: tuple[Check, ...], level: str) -> list[str]:
    """Returns, in words for people, the reasons why a runtime does not have a level; empty if it has."""
    return [
        f"{check.name}: {check.seen}"
        for check in checks
        if not check.passed and (check.must or level == "full") and level in PROBED
    ]
