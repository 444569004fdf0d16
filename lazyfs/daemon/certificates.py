"""What each repository of a mount is believed and known by over TLS, read while the daemon is still root."""

from lazyfs.core.errors import UsageError
from lazyfs.daemon.settings import Place, Settings
from lazyfs.transport.tls import Tls, TlsFiles


class Certificates:
    """Of one mount and its repositories."""

    def __init__(self, settings: Settings) -> None:
        """Reads the files. Raises UsageError for those of the mount itself; a repository's fail when it is
        opened."""
        self._mounts = _files(settings)
        self._read: dict[TlsFiles, Tls | UsageError] = {}
        places = settings.repositories.values()
        urls = [
            settings.source,
            settings.proxy,
            *(url for place in places for url in (place.url, place.proxy)),
        ]
        if self._mounts or any("https:" in url for url in urls if url):
            self._read[self._mounts] = Tls(self._mounts)
        for files in filter(None, map(_files, places)):
            if files not in self._read:
                try:
                    self._read[files] = Tls(files)
                except UsageError as error:
                    self._read[files] = error

    def of(self, place: Place) -> Tls | None:
        """For a repository's connections; None where nothing speaks TLS. Raises UsageError."""
        found = self._read.get(_files(place) or self._mounts)
        if isinstance(found, UsageError):
            raise found
        return found

    def identifies(self, place: Place) -> bool:
        """Returns True if servers are told over TLS who this node is."""
        return (_files(place) or self._mounts).client_cert is not None


def _files(given: Place | Settings) -> TlsFiles:
    return TlsFiles(given.ca, given.client_cert, given.client_key)
