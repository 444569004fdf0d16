"""The control requests that fetch whole images: begin, tell the progress, stop."""

import os
from typing import TYPE_CHECKING, Any

import msgspec

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import Digest, ObjectRef, parse_hex, sha256
from lazyfs.core.errors import FormatError, LazyfsError, UsageError
from lazyfs.core.profile import Profile, hinted
from lazyfs.daemon.control import Handler
from lazyfs.daemon.repositories import Repositories
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.vfs.missing_objects import Fetched
from lazyfs.vfs.paths_in_images import entry_at_path

if TYPE_CHECKING:
    from lazyfs.prefetch.prefetcher import ImageProgress, WholeImage

ALL = "all"
"""The value that, in place of a program's name, asks for the objects of all programs of a profile."""
LARGEST_RATE = 1 << 50
"""The largest rate that a request may ask for, in bytes a second: more than any line has."""


class ImageJobs:
    """The jobs of one mount that fetch whole images."""

    def __init__(self, filesystem: Filesystem, repositories: Repositories, *, site: bool) -> None:
        """`site`: True if each repository is a folder of the mount."""
        self._filesystem = filesystem
        self._repositories = repositories
        self._site = site

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by the names of their requests, for root and the daemon's user."""
        return {"prefetch": self._begin, "prefetch-progress": self._tell, "prefetch-stop": self._stop}

    async def _begin(self, request: dict[str, Any]) -> dict[str, Any]:
        path = os.fsencode(_text(request, "path"))
        repository, inner = self._repository_of(path)
        entry = await self._entry(repository, inner)
        if entry is None or entry.nested is None:
            raise UsageError(f"{os.fsdecode(path)}: no image or published tree of its own hangs there")
        prefetcher, rate = self._repositories.opened[repository].prefetcher, _rate(request)
        if request.get("profile") is None:
            name, job = entry.nested.digest, prefetcher.on_whole_image(entry.nested, rate)
        else:
            found = await prefetcher.profile(entry.nested, hinted(entry))
            if found is None:
                raise UsageError(f"{os.fsdecode(path)} has no profile: leave --profile out for all of it")
            program = _text(request, "profile")
            name = sha256(found[0].digest + program.encode())
            job = prefetcher.on_profile(name, _listed(found[1], program), rate)
        return {"repository": repository, "image": name.hex()} | _fields(job.progress())

    async def _tell(self, request: dict[str, Any]) -> dict[str, Any]:
        return _fields(self._job(request).progress())

    async def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        self._job(request).stop()
        return {}

    def _repository_of(self, path: bytes) -> tuple[str, bytes]:
        if not self._site:
            (name,) = self._repositories.opened
            return name, path
        first, _, inner = path.strip(b"/").partition(b"/")
        return os.fsdecode(first), inner

    async def _entry(self, repository: str, path: bytes) -> Entry | None:
        def look(fetched: Fetched) -> Entry | None:
            return entry_at_path(self._filesystem.tree, repository, path, fetched)

        try:
            return await self._filesystem.complete(self._filesystem.locked(look))
        except OSError as error:
            raise LazyfsError(f"{os.fsdecode(path)}: {error.strerror}") from None

    def _job(self, request: dict[str, Any]) -> "WholeImage":
        opened = self._repositories.opened.get(_text(request, "repository"))
        job = opened.prefetcher.whole_image(_digest(_text(request, "image"))) if opened else None
        if job is None:
            raise UsageError("there is no such job: begin it again")
        return job


def _fields(progress: "ImageProgress") -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(progress)
    return fields


def _text(request: dict[str, Any], field: str) -> str:
    value = request.get(field)
    if not isinstance(value, str) or "\0" in value:
        raise UsageError(f"`{field}` is no text")
    return value


def _listed(profile: Profile, program: str) -> list[ObjectRef]:
    """Returns the objects that a profile lists for a program, or for all programs (`ALL`). `program`: the
    program's path or its last component. Raises UsageError for a program that the profile does not list."""
    if program == ALL:
        return profile.of()
    names = [one.path for one in profile.programs]
    if not any(program.lstrip("/") in (name.lstrip("/"), name.rpartition("/")[2]) for name in names if name):
        shown = ", ".join(filter(None, names)) or "no program by name"
        raise UsageError(f"the profile lists {shown}, not {program}: give one of them, or {ALL}")
    return profile.of(program)


def _rate(request: dict[str, Any]) -> float | None:
    """Returns the highest rate that the caller allows, in bytes a second; None if the caller sets no
    limit."""
    value = request.get("rate")
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= LARGEST_RATE:
        raise UsageError(f"`rate` is not 1 to {LARGEST_RATE} bytes a second")
    return float(value)


def _digest(text: str) -> Digest:
    try:
        return parse_hex(text)
    except FormatError as error:
        raise UsageError(str(error)) from None
