"""The registries of a run. Each registry has one connection pool and one pace; each repository of a registry
has one client."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from lazyfs.core.errors import TransportError, UsageError
from lazyfs.core.oci.reference import Reference
from lazyfs.images.registry.accounts import Asked, LazyAccount
from lazyfs.images.registry.certificates import Certificates, folders
from lazyfs.images.registry.client import RegistryClient
from lazyfs.images.registry.conversation import Conversation, registry_names
from lazyfs.images.registry.credentials import Credentials
from lazyfs.images.registry.wire import Wire
from lazyfs.sync.registry_pace import RegistryPace
from lazyfs.sync.settings import RegistrySettings

log = logging.getLogger(__name__)

ACCOUNT = "the service's account"
"""Stands for the name of any account in messages, because the status site is public."""


class Registries:
    """Makes clients for repositories of registries. Safe to use from several threads. Use as a context
    manager."""

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings],
        environment: Mapping[str, str] | None = None,
        pause: Callable[[float], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`settings`: the settings of each registry, by the registry's name as image references have it.
        `pause`: waits for a number of seconds. The default also stops waiting as soon as `stop` is called."""
        self._now = now
        self._stopped = threading.Event()
        self._settings = settings
        self._environment = dict(os.environ) if environment is None else dict(environment)
        self._sleep = pause
        self._wires: dict[str, Wire] = {}
        self._clients: dict[tuple[str, str], RegistryClient] = {}
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "Registries":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            for wire in self._wires.values():
                wire.close()
            self._wires.clear()
            self._clients.clear()

    def stop(self) -> None:
        """Stops the run: every wait between requests ends at once with an error, every wait for an answer
        within a second, and no request is sent any more."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """True once the run has been stopped."""
        return self._stopped.is_set()

    def _pause(self, seconds: float) -> None:
        """Waits for a number of seconds. Raises TransportError as soon as the run is stopped."""
        if self._sleep is None:
            self._stopped.wait(seconds)
        else:
            self._sleep(seconds)
        self._going_on()

    def _going_on(self) -> None:
        """Raises TransportError once the run has been stopped."""
        if self._stopped.is_set():
            raise TransportError("given up: the run ends")

    @property
    def all_settings(self) -> Mapping[str, RegistrySettings]:
        """The settings that the operator has made for registries, by the registry's name."""
        return self._settings

    def settings(self, registry: str) -> RegistrySettings:
        """Returns the settings of a registry; the defaults if there are none."""
        return self._settings.get(registry, RegistrySettings())

    def client(self, reference: Reference) -> RegistryClient:
        """Returns the client for the registry's repository that an image reference names. It is the same
        client each time, because its tokens, and what it has learned about privacy, hold for all images
        there."""
        key = reference.registry, reference.repository
        with self._lock:
            found = self._clients.get(key)
            if found is None:
                found = self._clients[key] = self._made(reference)
            return found

    def _made(self, reference: Reference) -> RegistryClient:
        chosen = self.settings(reference.registry)
        asked = Asked(chosen.username, chosen.password_file, None, chosen.authfile)
        account = self._account(reference, asked)
        conversation = Conversation(
            reference._replace(tag=None, digest=None),
            self._wire(reference.registry, chosen),
            account,
            plain_http=chosen.plain_http,
            allow_private=chosen.publish_private,
            address=chosen.address,
            permission="publish-private in the service's configuration",
            account_shown=ACCOUNT,
            pause=self._pause,
        )
        return RegistryClient(reference._replace(tag=None, digest=None), conversation, pause=self._pause)

    def _account(self, reference: Reference, asked: Asked) -> Callable[[], Credentials | None]:
        """Returns a function that finds the account for a registry's repository. `asked`: the operator's
        settings for the account, which are checked at once. This method and the function raise UsageError."""
        with self._without_details(reference.registry):
            account = LazyAccount(reference, asked, self._environment)

        def found() -> Credentials | None:
            with self._without_details(reference.registry):
                return account.find()

        return found

    @contextmanager
    def _without_details(self, registry: str) -> Iterator[None]:
        """Replaces a UsageError in the block by one whose message has no names of the operator's files and
        programs, because the message appears on the public status site. Logs the original error."""
        try:
            yield
        except UsageError as error:
            if registry not in self._warned:
                self._warned.add(registry)
                log.warning("account for %s: %s", registry, error)
            raise UsageError(f"{registry}: {ACCOUNT} cannot be had: the service's log says why") from None

    def _wire(self, registry: str, chosen: RegistrySettings) -> Wire:
        wire = self._wires.get(registry)
        if wire is None:
            names = registry_names(chosen.address or registry, chosen.plain_http)
            certificates = Certificates(names, folders(self._environment), self._environment)
            pace = RegistryPace(
                chosen.parallel,
                pause=self._pause,
                now=self._now,
                longest=chosen.minutes_per_run * 60,
                going_on=self._going_on,
            )
            wire = Wire(
                certificates, plain_http=chosen.plain_http, pace=pace, connections=chosen.parallel + 4
            )
            self._wires[registry] = wire
        return wire
