"""The profile that an image has."""

from typing import NamedTuple

from lazyfs.core import profile
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.images.profiles.image_files import ImageFiles
from lazyfs.images.profiles.path_lists import paths_of
from lazyfs.images.profiles.publish import profiled_tree
from lazyfs.repository.diff import ResolvedPath
from lazyfs.repository.stored_tree import StoredTree


class PublishedProfile(NamedTuple):
    """An image's profile, as its repository has it."""

    place: str
    """Path at which the image's tree hangs."""
    top: ObjectRef
    """The image's top catalog."""
    ref: ObjectRef
    profile: profile.Profile


def published_profile(tree: StoredTree, image: str) -> PublishedProfile:
    """Returns an image's profile. Raises UsageError if there is no such image, or if it has none."""
    resolved, _ = profiled_tree(tree, image)
    found = profile_at(resolved)
    if found is None:
        raise UsageError(f"{image} has no profile: make one with lazyfs profile record, make or import")
    return found


def profile_at(found: ResolvedPath) -> PublishedProfile | None:
    """Returns the profile of the image's tree at a path; None if it has none, or one of an earlier version
    of the format."""
    top, ref = found.node.entry.nested, profile.hinted(found.node.entry)
    if top is None or ref is None:
        return None
    made = profile.decode(found.tree.read(ref))
    return PublishedProfile(found.path, top, ref, made) if made.programs else None


def profile_paths(tree: StoredTree, found: PublishedProfile) -> list[bytes]:
    """Returns the paths of the files that a profile's objects hold, in the profile's order."""
    return list(paths_of(ImageFiles(tree, found.top), [ref.digest for ref in found.profile.contents()]))
