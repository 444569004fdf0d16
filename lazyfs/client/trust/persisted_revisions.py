"""The repositories whose trusted state is persisted in the directory of a cache."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from lazyfs.client.trust.trust_file import TrustFile
from lazyfs.core.digest import ObjectRef


class PersistedRevision(NamedTuple):
    """A repository that was mounted with a state directory."""

    name: str
    root: ObjectRef
    namespace: bytes
    """The namespace of the repository's objects in the cache, if the repository is private."""


def revisions(state_dir: str) -> Iterator[PersistedRevision]:
    """Yields every repository that was mounted with this state directory."""
    try:
        names = sorted(os.listdir(state_dir))
    except FileNotFoundError:
        return
    for name in names:
        state = TrustFile(os.path.join(state_dir, name)).load(None)
        if state is not None and state.last_shown is not None:
            revision = state.last_shown.revision
            yield PersistedRevision(revision.name, revision.root, os.fsencode(name))
