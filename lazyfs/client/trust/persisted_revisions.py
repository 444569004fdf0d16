"""The revisions that a cache directory's persisted trust names."""

import os
from collections.abc import Iterator

from lazyfs.client.trust.trust_file import TrustFile
from lazyfs.core.digest import ObjectRef


def roots(state_dir: str) -> Iterator[tuple[str, ObjectRef]]:
    """Name and root catalog of every repository that was mounted with this state directory."""
    try:
        names = sorted(os.listdir(state_dir))
    except FileNotFoundError:
        return
    for name in names:
        state = TrustFile(os.path.join(state_dir, name)).load(None)
        if state is not None and state.proven is not None:
            revision = state.proven.revision
            yield revision.name, revision.root
