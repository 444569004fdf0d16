"""Refuses a mount that would serve its own daemon: a file that the daemon needs lies below its mount point.

Such a daemon would wait for itself once it needs a page of its code, certificate or cache that is not in
memory, and everybody who uses the mount would wait with it. Besides, the mount would hide the file.
"""

import os
import sys
from collections.abc import Iterator, Mapping

from lazyfs.core.errors import UsageError
from lazyfs.daemon.cache_directory import default_cache
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.system import mountpoint as points
from lazyfs.system.bounded_look import ask_one
from lazyfs.system.own_python import PYTHON


def check_own_files(settings: Settings, origins: Mapping[str, Origin], *, keeps_directory: bool) -> None:
    """Raises UsageError if a file that the daemon needs is below its mount point; the error names the file.

    `keeps_directory`: True if the daemon works in the directory in which it is started.
    """
    needed = [(what, path) for what, path in _needed(settings, origins, keeps_directory) if path]
    top = settings.mountpoint
    for what, path in needed:
        _refuse(what, path, os.path.normpath(path), top)
    if points.find(top) is None:
        real = [os.path.realpath(path) for _, path in needed]
    else:  # what is mounted there now may be dead, or hang
        answer = ask_one(lambda: [os.path.realpath(path) for _, path in needed], points.LOOK_SECONDS)
        if not answer.came:
            raise UsageError(
                f"mount point {top}: a file that the daemon needs is on a filesystem that does not answer in "
                f"{points.LOOK_SECONDS:g} s; lazyfs umount {top} first"
            )
        real = answer.value
    for (what, path), found in zip(needed, real, strict=True):
        _refuse(what, path, found, top)


def _refuse(what: str, path: str, found: str, top: str) -> None:
    if found == top or found.startswith(top.rstrip("/") + "/"):
        leads = "" if found == path else f", which is {found},"
        raise UsageError(
            f"{what} {path}{leads} is below the mount point {top}: the daemon would wait for itself; "
            f"move it, or mount elsewhere"
        )


def _needed(
    settings: Settings, origins: Mapping[str, Origin], keeps_directory: bool
) -> Iterator[tuple[str, str]]:
    yield "the program", os.path.dirname(os.path.abspath(__file__))
    yield "the interpreter", PYTHON[0]
    here = os.getcwd()  # first in sys.path under `python -m`; the program is not there, or found already
    for directory in (sys.prefix, sys.base_prefix, *(path for path in sys.path if path != here)):
        yield "the directory of libraries", os.path.abspath(directory) if directory else ""
    if keeps_directory:
        yield "the working directory", here
    yield "the cache", settings.cache or default_cache()
    yield "the store", settings.lower or ""
    yield "the log", settings.log or ""
    yield "the trace", settings.trace or ""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        yield "the certificates", os.path.abspath(os.environ[name]) if os.environ.get(name) else ""
    runtime = os.environ.get("LAZYFS_RUNTIME_DIR")
    yield "the runtime directory", os.path.abspath(runtime) if runtime else ""
    sources = settings.sources().values() if settings.is_site() else [settings.single_source()]
    for source in sources:
        yield "the store", "" if "://" in source.url else source.url
        for path in (source.ca, source.client_cert, source.client_key):
            yield "the certificate", path or ""
    if settings.profile is not None:
        given = settings.profile
        yield "the token of reports", given.token_file or ""
        for path in (given.client_cert, given.client_key, given.ca):
            yield "the certificate", path or ""
    for origin in origins.values():
        yield "the file of settings", origin.place.rpartition(":")[0] if origin.kind == "file" else ""
        yield "the file of settings", os.path.abspath(origin.through) if origin.through else ""
