"""The requests that a daemon answers on its control socket."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio

from lazyfs.core.chain.notation import redact
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.core.trust.roles import TIMESTAMP_KEPT
from lazyfs.daemon.control import Handler
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.status import MountStatus
from lazyfs_cache import Cache, NullCache

log = logging.getLogger(__name__)


class ControlRequests:
    """The handlers of one mount's requests."""

    def __init__(
        self,
        status: Callable[[], MountStatus],
        settings: Settings,
        origins: Mapping[str, Origin],
        repositories: Repositories,
        cache: Cache | NullCache,
    ) -> None:
        """`origins`: the origin of each setting."""
        self._status = status
        self._settings = settings
        self._origins = origins
        self._repositories = repositories
        self._cache = cache

    def handlers(self) -> dict[str, Handler]:
        """Returns the handler of each request, by its name, for root and the daemon's user."""
        return {
            "pid": self._answer_pid,
            "status": self._answer_status,
            "urls": self._answer_urls,
            "settings": self._answer_settings,
            "refresh": self._refresh,
            "cache-resize": self._resize,
        }

    def public(self) -> dict[str, Handler]:
        """Returns the handlers for other users: the mount's status, without the accounts in its URLs."""
        return {"pid": self._answer_pid, "status": self._answer_public_status}

    async def _answer_public_status(self, _: dict[str, Any]) -> dict[str, Any]:
        status = self._status()
        shown = {
            name: msgspec.structs.replace(repository, url=_redacted(repository.url), namespace="")
            for name, repository in status.repositories.items()
        }
        public = msgspec.structs.replace(status, source=_redacted(status.source), repositories=shown)
        fields: dict[str, Any] = msgspec.to_builtins(public)
        return fields

    async def _answer_pid(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "patience": self._settings.patience}

    async def _answer_status(self, _: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self._status())
        return fields

    async def _answer_urls(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"urls": self._repositories.urls()}

    async def _answer_settings(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "settings": msgspec.to_builtins(self._settings),
            "origins": msgspec.to_builtins(dict(self._origins)),
        }

    async def _refresh(self, _: dict[str, Any]) -> dict[str, Any]:
        """Looks for new revisions of all repositories side by side, so that a dead one delays no other."""
        news: dict[str, str] = {}

        async def look(name: str) -> None:
            try:
                changed = await self._repositories.refresh(name)
                news[name] = "new revision" if changed else self._no_news(name)
            except (LazyfsError, OSError, KeyError) as error:  # KeyError: withdrawn meanwhile
                news[name] = f"failed: {error}"
                log.warning("%s: no newer revision: %s", name, error)

        names = list(self._repositories.opened)
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(look, name)
        return {"repositories": {name: news[name] for name in names}}

    def _no_news(self, name: str) -> str:
        if not self._repositories.is_behind_caches(name):
            return "no news"
        return f"no news; the signed time seen may be up to {TIMESTAMP_KEPT} s old, from a cache"

    async def _resize(self, request: dict[str, Any]) -> dict[str, Any]:
        resize = getattr(self._cache, "resize", None)
        limit = request.get("limit")
        if resize is None or not isinstance(limit, int):
            raise UsageError("this cache cannot be resized, or `limit` is not a number of bytes")
        await trio.to_thread.run_sync(resize, limit)
        return {"limit": limit}


def _redacted(source: str) -> str:
    """Returns the text of a repository's origins, with their accounts removed."""
    return ";".join(redact(part) for part in source.split(";"))
