"""The collected profiles of one repository, which a collector made from reports of starts on nodes: a list
that a delegated key signs. They are hints: a list that is missing, wrong, older or too late changes what is
fetched ahead, and nothing else."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from lazyfs.client.download import request_of
from lazyfs.client.trust.metadata_files import Ask, MetadataFiles
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.core.trust.roles import PROFILES, PROFILES_FILE
from lazyfs.transport.fetcher import Fetcher, never_cancelled

if TYPE_CHECKING:
    from tuf.api.metadata import Targets

log = logging.getLogger(__name__)


class CollectedProfiles:
    """The list of collected profiles that was fetched last. `refresh` blocks; `of` may be called from any
    thread meanwhile."""

    def __init__(self, fetcher: Fetcher, publisher: Callable[[], "Targets | None"]) -> None:
        """`publisher` returns the targets of the trusted revision, which name the key that signs the list; it
        returns None if no revision is trusted."""
        self._fetcher = fetcher
        self._files = MetadataFiles(fetcher)
        self._publisher = publisher
        self._keys: list[str] = []
        self._version = 0
        self._expires: datetime | None = None
        self._ref: ObjectRef | None = None
        self._images: dict[Digest, ObjectRef] = {}

    @property
    def images(self) -> int:
        """The number of images that have collected profiles."""
        return len(self._images)

    def of(self, image: Digest) -> ObjectRef | None:
        """Returns the collected profile of the image whose top catalog is `image`; None if there is none."""
        return self._images.get(image)

    def refresh(
        self, now: datetime, deadline: float, check_cancelled: Callable[[], None] = never_cancelled
    ) -> None:
        """Looks for a newer list, if the publisher has delegated a key for such lists. Without such a key,
        makes no request and drops the present list. A failure is logged, and the present list stays until it
        expires. Raises the exceptions of `check_cancelled`, which is called while a server is waited for."""
        try:
            self._refresh(now, deadline, check_cancelled)
        except LazyfsError as error:
            log.warning("collected profiles: %s", error)

    def _refresh(self, now: datetime, deadline: float, check_cancelled: Callable[[], None]) -> None:
        publisher = self._publisher()
        if publisher is None or publisher.delegations is None:
            self._drop()
            return
        # imported here: few repositories have such lists
        from lazyfs.core import collected_profiles
        from lazyfs.core.trust.delegation import MAX_FILE, is_delegated, load_profiles

        if not is_delegated(publisher):
            self._drop()
            return
        keys = publisher.get_delegated_role(PROFILES).keyids
        if keys != self._keys:  # an old key may have run the version up, for ever (specification 5.3.11)
            self._drop()
            self._keys = keys
        if self._expires is not None and now >= self._expires:
            self._ref, self._images = None, {}
        ask = Ask(PROFILES_FILE, MAX_FILE, optional=True)
        data = self._files.get([ask], deadline, check_cancelled).get(PROFILES_FILE)
        if data is None:
            return
        signed, ref = load_profiles(data, publisher)
        if signed.version < self._version:
            return  # a proxy lags behind
        if signed.is_expired(now):
            self._ref, self._images = None, {}
            return
        if ref != self._ref:
            plain = self._fetcher.fetch(request_of(ref, deadline, check_cancelled), check_cancelled)
            self._images = {one.image: one.profile for one in collected_profiles.decode(plain)}
            self._ref = ref
        self._version, self._expires = signed.version, signed.expires

    def _drop(self) -> None:
        self._keys, self._version, self._expires = [], 0, None
        self._ref, self._images = None, {}
