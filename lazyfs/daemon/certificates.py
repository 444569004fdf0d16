"""The credentials of a mount for its repositories and for the collector of its reports (`lazyfs collect`),
read while the daemon is still root."""

from typing import TYPE_CHECKING

from lazyfs.core.errors import UsageError
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.transport.tls_files import TlsFiles

if TYPE_CHECKING:
    from lazyfs.daemon.reporting.target import ReportTarget
    from lazyfs.transport.tls import Tls


class Certificates:
    """The TLS credentials of one mount and its repositories."""

    def __init__(self, settings: Settings) -> None:
        """Reads the files of certificates, keys and tokens that the settings name. Raises UsageError for a
        bad file of the mount itself. For a bad file of a repository, `of` raises it, when that repository is
        opened."""
        self.report_target: ReportTarget | None = None
        """The collector to which starts are reported; None if the settings name none."""
        if settings.profile is not None:
            from lazyfs.daemon.reporting import target  # few mounts report

            self.report_target = target.ReportTarget(settings.profile)
        self._read: dict[TlsFiles, Tls | UsageError] = {}
        mounts = _files(settings)
        if mounts:
            self._read[mounts] = _credentials(mounts)
        sources = settings.sources().values() if settings.is_site() else [settings.single_source()]
        for source in sources:
            files = _files(source)
            over_tls = any("https:" in url for url in (source.url, source.proxy) if url)
            if files not in self._read and (files or over_tls):
                try:
                    self._read[files] = _credentials(files)
                except UsageError as error:
                    if files == mounts:
                        raise
                    self._read[files] = error

    def of(self, source: RepositorySource) -> "Tls | None":
        """Returns the credentials for a repository's connections; None if no connection uses TLS.

        Raises UsageError.
        """
        found = self._read.get(_files(source))
        if isinstance(found, UsageError):
            raise found
        return found


def _files(given: RepositorySource | Settings) -> TlsFiles:
    return TlsFiles(given.ca, given.client_cert, given.client_key)


def _credentials(files: TlsFiles) -> "Tls":
    from lazyfs.transport.tls import Tls  # ssl takes 10 ms to import

    return Tls(files)
