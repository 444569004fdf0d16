"""The place in the tree of an image that has no registry reference."""

import os
import re

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.reference import parse

LOCAL = "localhost"
"""The registry in the place of an image that names none; podman names such images so too."""


def default_place(ref_name: str | None, path: str) -> str | None:
    """Returns the default place of an image found under `ref_name` (an annotation or a RepoTag) in a file or
    directory: the reference's own path; if `ref_name` is a tag alone, `localhost/<name of the
    directory>:<tag>`; None if there is no valid name."""
    if not ref_name:
        return None
    if "/" in ref_name or ":" in ref_name:
        try:
            return parse(ref_name).path
        except UsageError:
            return None
    base = re.sub(r"[^a-z0-9]+", "-", os.path.basename(os.path.abspath(path)).lower()).strip("-")
    try:
        return parse(f"{LOCAL}/{base or 'image'}:{ref_name}").path
    except UsageError:
        return None
