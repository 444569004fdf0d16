"""Makes one archive about this machine's mounts, without secrets, for the person who is asked for help."""

import gzip
import io
import json
import os
import pwd
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.daemon.shown_settings import shown_settings
from lazyfs.daemon.wanted_settings import WantedSettings
from lazyfs.node import report_parts
from lazyfs.node.checks import cache_disk
from lazyfs.node.doctor import examine
from lazyfs.node.scrubber import Scrubber, secrets_of
from lazyfs.node.surroundings import Surroundings, look_around, mounts_at
from lazyfs.system.bounded_look import ask_each, ask_one

PART_SECONDS = 3.0
"""The longest time in seconds of each round of the report. The five rounds: make the file; gather the parts;
gather the logs; read the names of user accounts; write the file."""
DOCTOR_SECONDS = 8.0
"""The longest time in seconds of the doctor. With up to 6 s for the mounts and five rounds of PART_SECONDS, a
report takes no longer than 29 s."""
_MOST_LOGS = 20
_PEOPLE = range(1000, 60_000)
"""The user ids that useradd gives to people."""

_NAMED = ("USER", "LOGNAME", "SUDO_USER")
Parts = dict[str, Any]
"""Name in the archive -> text, or a value that is written as JSON."""


def make(path: str, name: str, wanted: WantedSettings | None) -> None:
    """Writes a report to the new file `path`: an archive in which everything lies in a folder called `name`.
    `wanted`: the settings of a mount that does not answer. Raises UsageError."""
    _on_disk(path, lambda: _make_file(path))
    found = look_around(mounts_at(None), wanted)
    data = archive(collect(found), scrubber(found.wanted), name)
    _on_disk(path, lambda: _fill_file(path, data))


def collect(found: Surroundings) -> Parts:
    """Returns the parts of a report, secrets included. The names of parts that do not come in time are in
    `missing.json`."""
    parts: Parts = {"missing.json": {}}
    for number, one in enumerate(found.mounts, 1):
        parts[f"mount-{number}.json"] = {
            "mount": one.mount._asdict(),
            "statfs errno": one.looked.number,
            "no status because": one.looked.reason,
            "covered by": one.covered_by,
            "status": one.looked.status,
        }
    for number, settings in enumerate(found.wanted, 1):
        parts[f"settings-{number}.json"] = shown_settings(*settings)
    asked: dict[str, Callable[[], Any]] = {
        "versions.json": report_parts.versions,
        "mountinfo.txt": lambda: "\n".join(report_parts.mount_lines()) + "\n",
        "waiting.json": report_parts.waiting_requests,
        "daemons.json": report_parts.daemons,
        "cache.json": lambda: msgspec.to_builtins(cache_disk.gather(found)),
    }
    _ask(asked, parts)
    _ask(_logs(found, parts.get("daemons.json") or []), parts)
    parts["doctor.json"] = examine(found, seconds=DOCTOR_SECONDS)
    return parts


def scrubber(wanted: list[WantedSettings]) -> Scrubber:
    """Returns a scrubber of these settings' secrets, and of the names and homes of this machine's people."""
    accounts = ask_one(lambda: list(map(list, _accounts())), PART_SECONDS).value or []
    users = {name for name, _ in accounts} | {os.environ.get(one, "") for one in _NAMED}
    homes = {home for _, home in accounts} | {os.environ.get("HOME", "")}
    chains = [
        text
        for one in wanted
        for source in (one.settings.single_source(), *one.settings.sources().values())
        for text in (source.url, source.proxy or "")
    ]
    chains.append(os.environ.get("LAZYFS_PROXY", ""))
    secrets = {secret for chain in chains for secret in secrets_of(chain)}
    return Scrubber(homes - {"/"}, users - {"root", "nobody"}, secrets)


def archive(parts: Parts, clean: Scrubber, top: str) -> bytes:
    """Returns a tar.gz of the parts, scrubbed, in a folder called `top`."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb") as squeezed,
        tarfile.open(fileobj=squeezed, mode="w") as tar,
    ):
        for name, value in parts.items():
            text = value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value), indent=1)
            data = clean.text(text).encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _make_file(path: str) -> None:
    """Makes an empty file that only this user may read. Raises OSError if the path exists already."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _fill_file(path: str, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
        file.write(data)


def _on_disk(path: str, work: Callable[[], None]) -> None:
    """Calls `work`, which deals with the archive's file at `path`, in a child process. Raises UsageError if
    `work` fails or does not end in time."""

    def tried() -> str:
        try:
            work()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    answer = ask_one(tried, PART_SECONDS)
    fault = answer.value if answer.came else f"its filesystem does not answer in {PART_SECONDS:g} s"
    if fault:
        raise UsageError(f"-o {path}: {fault}; give another file with -o")


def _ask(asked: dict[str, Callable[[], Any]], parts: Parts) -> None:
    """Gathers parts of the report, each in a child process, and adds them to `parts`. `asked`: name of a part
    -> the function that returns it. The names of parts that did not come are added to `missing.json`."""
    answers = ask_each(list(asked.values()), PART_SECONDS, patience=PART_SECONDS, enough=lambda _: False)
    for name, answer in zip(asked, answers, strict=True):
        if answer.came:
            parts[name] = answer.value
        else:
            parts["missing.json"][name] = f"failed, or no answer in {PART_SECONDS:g} s"


def _logs(found: Surroundings, daemons: list[dict[str, Any]]) -> dict[str, Callable[[], Any]]:
    paths = [one.settings.log for one in found.wanted] + [daemon["log"] for daemon in daemons]
    named = list(dict.fromkeys(path for path in paths if path))[:_MOST_LOGS]
    return {
        f"log-{number}.txt": lambda path=path: f"{path}\n\n{report_parts.last_lines(path)}"  # type: ignore[misc]
        for number, path in enumerate(named, 1)
    }


def _accounts() -> Iterator[tuple[str, str]]:
    """Yields (name, home) of the people in /etc/passwd and of this process's user. Runs in a child process:
    the name service may hang."""
    with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
        for fields in (line.split(":") for line in file):
            if len(fields) > 5 and fields[2].isdecimal() and int(fields[2]) in _PEOPLE:
                yield fields[0], fields[5]
    with suppress(KeyError):
        own = pwd.getpwuid(os.getuid())
        yield own.pw_name, own.pw_dir
