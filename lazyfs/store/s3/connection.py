"""The connection to one bucket: addresses, limits of one attempt, and credentials that may be renewed."""

import threading
from datetime import timedelta
from typing import Any

from obstore.store import S3Store

from lazyfs.store.protocol import StoreError
from lazyfs.store.s3.credentials import Profile
from lazyfs.store.s3.location import BucketLocation

_CONNECT = timedelta(seconds=10)
_SILENCE = timedelta(seconds=30)
_WHOLE = timedelta(seconds=120)
"""The limits of one attempt: _CONNECT for the connection, _SILENCE for a time without a byte, _WHOLE for all
of it. 16 MiB in 120 s are 1.1 Mbit/s."""


class Connection:
    """The connection to a bucket, below the prefix of one store. Thread-safe."""

    def __init__(self, location: BucketLocation, profile: Profile) -> None:
        """Raises UsageError for an AWS profile that cannot be used."""
        self._location = location
        self._profile = profile
        self._mutex = threading.Lock()
        self._credentials = None if profile.unsigned() else profile.credentials()
        self._store = self._open()

    @property
    def store(self) -> S3Store:
        """The bucket, with the credentials in use."""
        return self._store

    def renewed(self, used: S3Store) -> bool:
        """Reads the credentials again after a request with `used` was refused. Returns True if the connection
        now has other credentials than `used`, so that a retry may help."""
        with self._mutex:
            if self._store is not used:
                return True
            if self._profile.unsigned():
                return False
            found = self._profile.credentials()
            if found == self._credentials:
                return False
            self._credentials = found
            self._store = self._open()
            return True

    def _open(self) -> S3Store:
        around = self._profile.surroundings()
        config: dict[str, Any] = {"region": around.region, "conditional_put": "etag"}
        client: dict[str, Any] = {
            "connect_timeout": _CONNECT,
            "read_timeout": _SILENCE,
            "timeout": _WHOLE,
            "pool_max_idle_per_host": "64",
        }
        if around.endpoint:
            config["endpoint"] = around.endpoint.rstrip("/")
            client["allow_http"] = around.endpoint.startswith("http://")
        if around.ca_bundle:
            client["root_certificate"] = _read_bundle(around.ca_bundle)
        if self._profile.unsigned():
            config["skip_signature"] = True
        options: dict[str, Any] = {}
        if self._credentials is not None:
            options["credential_provider"] = self._provide
        return S3Store(
            self._location.bucket,
            prefix=self._location.prefix or None,
            config=config,  # type: ignore[arg-type]
            client_options=client,  # type: ignore[arg-type]
            retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
            **options,
        )

    def _provide(self) -> dict[str, Any]:
        """Returns the credentials in use, for obstore, which calls this again when they are about to
        expire."""
        with self._mutex:
            if self._credentials is not None and self._credentials.expires is not None:
                self._credentials = self._profile.credentials() or self._credentials
            found = self._credentials
        assert found is not None
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret,
            "token": found.token,
            "expires_at": found.expires,
        }


def _read_bundle(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise StoreError(f"CA bundle {path}: {error.strerror}") from None
