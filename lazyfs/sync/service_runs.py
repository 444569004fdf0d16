"""Runs of a service for `lazyfs sync`, `lazyfs listen` and `lazyfs.sync.run.sync`: connects each run with the
service's lists, state, quotas, acknowledgements, webhooks, events and status sites."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from lazyfs.core.webhooks.pushes import Push
from lazyfs.images.registry.other_servers import wire_to
from lazyfs.repository.opened_repository import open_repository
from lazyfs.store import open_web_files
from lazyfs.store.web_files import DirectoryFiles
from lazyfs.sync import lists as wishlists
from lazyfs.sync.acknowledged import Acknowledged
from lazyfs.sync.event_file import append_events, latest_events
from lazyfs.sync.list_run import run_lists
from lazyfs.sync.lists import GivenList, ListKeeper
from lazyfs.sync.notifier import Notifier
from lazyfs.sync.push_run import run_pushes
from lazyfs.sync.registries import Registries
from lazyfs.sync.report import Report
from lazyfs.sync.service import Service, Workers
from lazyfs.sync.settings import Settings
from lazyfs.sync.start_recorder import StartRecorder, source_to_mount
from lazyfs.sync.starts import StartSettings
from lazyfs.sync.state import State, held, read_state, write_state
from lazyfs.sync.status_directory import default_status_directory

SITE_IN_STORE = "status"
"""The folder, beside the store's own files, that holds the public status site."""
SHOWN_EVENTS = 500
"""The largest number of events that the status site shows; it shows the latest ones."""


class ServiceRuns:
    """The runs of one service."""

    def __init__(
        self,
        store: str,
        keys: str | None,
        settings: Settings,
        status: str | None,
        tell: Callable[[str], None],
    ) -> None:
        """`keys`, `status`: the directories of the keys and of the state; None for the default ones. `tell`:
        called with each line of progress, from several threads. Raises as open_repository."""
        self._repository = open_repository(store, keys)
        self._location = store
        self._settings = settings
        self._tell = tell
        self._status = status or default_status_directory(self._repository.name)
        self._addresses = [one.address(name) for name, one in settings.notify.items()]

    @property
    def name(self) -> str:
        """The repository's name."""
        return self._repository.name

    def sync(
        self,
        names: Sequence[str],
        *,
        forget: Sequence[str] = (),
        accept_shorter: Sequence[str] = (),
        max_age: float = 0.0,
        max_delete: int | None = None,
        dry_run: bool = False,
        wait: float = 0.0,
        workers: Workers | None = None,
    ) -> Report:
        """Brings the tree in line with the lists: publishes the images that they wish, and removes images
        that have to leave.

        `names`: the paths and addresses of the lists. `forget`: lists to give up. `accept_shorter`: lists
        that are meant to have lost most of their wishes. `max_age`: seconds after a registry's answer for
        which it is not asked for the tag again. `max_delete`: the largest number of images that may leave;
        None for the configuration's number. `dry_run`: True to change nothing. `wait`: seconds to wait for
        another run to end. `workers`: processes that read the images; None for threads of this process.

        Raises LazyfsError; Busy if that other run has not ended by then.
        """
        forgotten = tuple(map(wishlists.shown_name, forget))
        meant = frozenset(map(wishlists.shown_name, accept_shorter))
        with (
            held(self._status, wait),
            Registries(self._settings.registries) as registries,
            self._notifier() as notifier,
            self._recorder() as recorder,
        ):
            state = read_state(self._status, self.name)
            given = self._load(names, meant, forgotten, dry_run=dry_run)
            service = self._service(
                registries,
                notifier,
                recorder,
                max_age=max_age,
                max_delete=max_delete,
                dry_run=dry_run,
                forgotten=forgotten,
                workers=workers,
            )
            report = run_lists(service, given, state)
            if not dry_run:
                self._publish_status(report, state)
        return report

    def take(self, names: Sequence[str], pushes: Sequence[Push], wait: float) -> Report:
        """Publishes the pushed images that are wished. `names`: the paths and addresses of the lists. `wait`:
        seconds to wait for another run to end. Raises LazyfsError; Busy if that run has not ended by then."""
        with (
            held(self._status, wait),
            Registries(self._settings.registries) as registries,
            self._notifier() as notifier,
            self._recorder() as recorder,
        ):
            state = read_state(self._status, self.name)
            given = self._load(names, frozenset(), (), dry_run=True)
            report = run_pushes(self._service(registries, notifier, recorder), given, state, pushes)
            self._publish_status(report, state)
        return report

    def _load(
        self, names: Sequence[str], meant: frozenset[str], forgotten: tuple[str, ...], *, dry_run: bool
    ) -> list[GivenList]:
        """Returns the lists in force. Except in a dry run, keeps the lists' content for later runs and
        forgets the `forgotten` lists. `names`: the paths and addresses of the lists. `meant`: shown names of
        lists that are meant to have lost wishes."""
        keeper = ListKeeper(os.path.join(self._status, "lists"), meant=meant)
        if not dry_run:
            for name in forgotten:
                keeper.forget(name)
        given = [wishlists.load(name, keeper) for name in wishlists.expand(names)]
        if not dry_run:
            for one in given:
                keeper.take(one)
        return given

    def _service(
        self,
        registries: Registries,
        notifier: Notifier,
        recorder: StartRecorder | None,
        *,
        max_age: float = 0.0,
        max_delete: int | None = None,
        dry_run: bool = False,
        forgotten: tuple[str, ...] = (),
        workers: Workers | None = None,
    ) -> Service:
        chosen, profiles = self._settings.service, self._settings.profiles
        return Service(
            self._repository.store,
            self._repository.keys,
            registries,
            chosen,
            chosen.first_platform,
            lambda: datetime.now(UTC),
            save=lambda now: write_state(self._status, now),
            tell=self._tell,
            platform_asked=bool(chosen.platforms),
            max_age=max_age,
            max_delete=chosen.max_delete if max_delete is None else max_delete,
            dry_run=dry_run,
            forgotten=forgotten,
            workers=workers,
            acknowledged=Acknowledged(self._settings.acknowledgements, lambda: datetime.now(UTC).date()),
            quotas=self._settings.quotas,
            announce=notifier.announce,
            starts=StartSettings(recorder, profiles.images_per_run, profiles.inherit, profiles.guess),
        )

    @contextmanager
    def _recorder(self) -> Iterator[StartRecorder | None]:
        """Yields the recorder of starts; None if the configuration does not allow starts. Deletes its traces
        after the block."""
        chosen = self._settings.profiles
        if not chosen.allowed:
            yield None
            return
        source, trust = source_to_mount(self._location, self._repository.store, chosen.url)
        with closing(StartRecorder(source, chosen.seconds, chosen.memory_bytes, trust=trust)) as recorder:
            yield recorder

    @contextmanager
    def _notifier(self) -> Iterator[Notifier]:
        """Yields the notifier of the configured addresses. After the block, the notifier sends its last
        messages."""
        with Notifier(self.name, self._addresses, lambda one: wire_to(one.url), self._tell) as notifier:
            yield notifier

    def _publish_status(self, report: Report, state: State) -> None:
        """Appends the events to the event file, and rewrites the status site."""
        from lazyfs.sync.site.document import document, public_document
        from lazyfs.sync.site.pages import pages  # jinja2 takes 50 ms to import
        from lazyfs.sync.site.write import write_site

        append_events(self._status, report.events)
        events = latest_events(self._status, SHOWN_EVENTS)
        whole = document(state, events, int(datetime.now(UTC).timestamp()))
        directory = self._settings.service.site or os.path.join(self._status, "site")
        write_site(DirectoryFiles(directory), pages(whole))
        if self._settings.service.site_in_store:
            public = pages(public_document(whole, state), public=True)
            write_site(open_web_files(self._location, SITE_IN_STORE), public)
