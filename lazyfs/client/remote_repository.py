"""A repository read over its URL without a mount: its newest trusted revision, and verified objects."""

import time
from collections.abc import Callable
from datetime import datetime

from lazyfs.client.download import request_of
from lazyfs.client.trust.anchor import Anchor
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.digest import ObjectRef
from lazyfs.core.params import Revision
from lazyfs.transport.fetcher import Fetcher, never_cancelled

PATIENCE = 30.0
"""Timeout of one request, in seconds."""


class RemoteRepository:
    """The newest revision of a repository, and its objects. Blocking; keeps no object."""

    def __init__(
        self,
        fetcher: Fetcher,
        state_dir: str,
        anchor: Anchor | None,
        now: Callable[[], datetime],
    ) -> None:
        """Looks for the newest revision. `state_dir`: the directory in which mounts of this URL keep their
        trusted state. `anchor`: the root or fingerprint given by the operator; None uses the state that a
        mount has trusted before. Raises TransportError, TrustError, UnsupportedFormat, and UsageError if
        nothing is trusted."""
        self._fetcher = fetcher
        trusted = Revisions(fetcher, state_dir, anchor)
        trusted.offline(now())
        self.revision: Revision = trusted.refresh(now(), time.monotonic() + PATIENCE)
        """The newest revision."""

    def read(self, ref: ObjectRef) -> bytes:
        """Returns an object's verified plaintext. Raises as Fetcher.fetch."""
        request = request_of(ref, time.monotonic() + PATIENCE, never_cancelled)
        return self._fetcher.fetch(request, never_cancelled)
