"""Finds the profile that a new image inherits, and the objects of the new image that correspond to the
objects of the profile."""

import re
from collections.abc import Iterator

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.core.inheritance import FileInImage, ImageContent, Part, inherited
from lazyfs.core.profile import Origin
from lazyfs.images.profiles.image_files import ImageFiles
from lazyfs.images.profiles.published import PublishedProfile, profile_at
from lazyfs.repository.diff import resolve
from lazyfs.repository.stored_tree import StoredTree

CANDIDATES = 16
"""The largest number of other tags whose images are searched for a profile, the newest images first."""


def predecessor(tree: StoredTree, place: str, at: str) -> PublishedProfile | None:
    """Returns the profile that an image published at `place` inherits; None if there is none.

    Looks for a profile at the path `at` of the image's own tree, then at the image that has the name now,
    then at the images with other tags of the same registry's repository, the newest first. Passes over
    guessed profiles: these are guessed anew.
    """
    for path in dict.fromkeys([at, place, *_tags(tree, place)]):
        try:
            found = profile_at(resolve(tree, path))
        except UsageError:
            continue  # not there
        if found is not None and found.profile.origin is not Origin.GUESSED:
            return found
    return None


def _tags(tree: StoredTree, place: str) -> Iterator[str]:
    """Yields the places of the images in the same registry's repository, the newest first."""
    folder, _, name = place.rpartition("/")
    repository = re.split("[:@]", name)[0]
    node = tree.find(folder)
    if repository == name or node is None or not node.entry.is_dir:
        return
    beginnings = (f"{repository}:".encode(), f"{repository}@".encode())
    links = [one for one in tree.entries(node) if one.is_link and one.name.startswith(beginnings)]
    links.sort(key=_age)
    for one in links[:CANDIDATES]:
        yield f"{folder}/{one.name.decode(errors='surrogateescape')}"


def _age(entry: Entry) -> tuple[int, bytes]:
    return -entry.mtime, entry.name


def inherited_contents(tree: StoredTree, old: PublishedProfile, top: ObjectRef) -> dict[str, list[Digest]]:
    """Returns, for each program of the `old` profile, the contents of the image with this top catalog that
    correspond to those of the profile, in the profile's order."""
    before, now = content_of(ImageFiles(tree, old.top)), content_of(ImageFiles(tree, top))
    return {
        program.path: inherited([ref.digest for ref in old.profile.contents(program)], before, now)
        for program in old.profile.programs
    }


def content_of(files: ImageFiles) -> ImageContent:
    """Returns the files and catalogs of an image."""
    found = ImageContent([], {})
    for file in files.walk():
        if file.entry.is_dir:
            found.catalogs[file.path] = files.catalog_of(file)
        else:
            parts = tuple(Part(*part) for part in files.parts(file))
            found.files.append(FileInImage(file.path, file.entry.content_id, parts))
    return found
