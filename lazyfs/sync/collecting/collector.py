"""The collector of one repository's reports: takes reports from many threads, publishes profiles from one
thread, and keeps its state in a file."""

import os
import threading
from collections.abc import Callable
from typing import Final

from lazyfs.core.digest import Digest
from lazyfs.core.errors import UsageError
from lazyfs.core.start_reports.report import StartReport
from lazyfs.store import Store
from lazyfs.sync.collecting.image_objects import RepositoryImages
from lazyfs.sync.collecting.publishing import ProfilePublisher, PublishedImages
from lazyfs.sync.collecting.reporters import Reporters
from lazyfs.sync.collecting.reports import Outcome, Reports, honest_sizes, restored
from lazyfs.system.durable_file import write_durably

FILE: Final = "reports"
MOST_BYTES: Final = 1 << 30


class ReportCollector:
    """Collects the reports of one repository and publishes the profiles that are made of them."""

    def __init__(
        self,
        store: Store,
        publisher: ProfilePublisher,
        reporters: Reporters,
        state_directory: str,
        wall: Callable[[], float],
    ) -> None:
        """`state_directory`: holds the file of earlier reports; made if needed. `wall`: returns seconds since
        1970. Raises UsageError if the file cannot be read, and as `read_revision`."""
        self._images = RepositoryImages(store)
        self._published = RepositoryImages(store)
        """A second RepositoryImages for the thread that publishes, so that it reads catalogs without holding
        the lock that `take` needs."""
        self._reading = threading.Lock()
        """Held while a report is compared with its image. That may take seconds, because the store is read;
        meanwhile other senders are refused, and repetitions are told."""
        self._publisher = publisher
        self._reporters = reporters
        self._wall = wall
        self._mutex = threading.Lock()
        self._path = os.path.join(state_directory, FILE)
        self._reports = _load(self._path, self._images.revision.name)
        self._saved = True

    def may_report(self, reporter: str) -> bool:
        """Notes that a reporter sends a report; returns False if the reporter sends too many, so that this
        report is to be refused."""
        with self._mutex:
            return self._reporters.may_report(reporter, self._wall())

    def take(self, report: StartReport, reporter: str) -> Outcome:
        """Counts a report if it is valid, and returns what became of it. Raises StoreError or BadData if the
        image that the report is about cannot be read."""
        with self._mutex:
            self._saved = False
            outcome = self._reports.settle(report, reporter)
        if outcome is not None:
            return outcome
        sizes = self._sizes(report)
        with self._mutex:
            self._saved = False
            return self._reports.take(report, reporter, sizes)

    def _sizes(self, report: StartReport) -> dict[Digest, int] | None:
        with self._reading:
            image = self._images.find(Digest(report.image), self._wall())
            return None if image is None else honest_sizes(report, image)

    def refused(self, reason: str) -> None:
        """Counts a refused request under its `reason`."""
        with self._mutex:
            self._reports.outcomes[f"refused: {reason}"] += 1
            self._saved = False

    def outcomes(self) -> dict[str, int]:
        """Returns the number of reports for each Outcome, and of refused requests for each reason."""
        with self._mutex:
            return dict(self._reports.outcomes)

    def publish(self) -> PublishedImages:
        """Publishes the profiles, then saves the state, even if publishing fails. Raises as
        ProfilePublisher.publish and `save`."""
        self._published.look(self._wall())
        with self._mutex:
            wanted = self._publisher.wanted(self._reports, self._published)
        try:
            return self._publisher.publish(wanted, self._published)
        finally:
            self.save()

    def save(self) -> None:
        """Writes the state to its file if it has changed. Raises UsageError if the file cannot be written."""
        with self._mutex:
            if self._saved:
                return
            data = self._reports.save()
            self._saved = True
        try:
            write_durably(self._path, data)
        except OSError as error:
            self._saved = False
            raise UsageError(f"state {self._path}: {error.strerror}") from None


def _load(path: str, repository: str) -> Reports:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES)
    except FileNotFoundError:
        return Reports(repository)
    except OSError as error:
        raise UsageError(f"state {path}: {error.strerror}") from None
    return restored(data, repository)
