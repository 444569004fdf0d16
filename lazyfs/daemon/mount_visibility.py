"""Decides whether other users of the machine may see into a user's mount."""

from lazyfs.daemon.known_revision import repository_name
from lazyfs.daemon.private_repositories import is_private
from lazyfs.daemon.settings import Settings
from lazyfs.system.fuse_conf import user_allow_other


def is_for_everybody(settings: Settings) -> bool:
    """Returns True if other users may see into a user's mount. They may if /etc/fuse.conf permits it; if the
    mount shows a private repository, the user must have asked for `permissions = "open"` too: fetched with
    that user's credential, the repository's files would be everybody's."""
    return user_allow_other() and (settings.permissions == "open" or not _shows_private(settings))


def _shows_private(settings: Settings) -> bool:
    sources = settings.sources()
    if not settings.is_site():
        sources = {repository_name(settings): settings.single_source()}
    return any(
        is_private(source.url, name, certificate=source.client_cert is not None)
        for name, source in sources.items()
    )
