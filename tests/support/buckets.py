"""Stores in buckets of a test's S3 server."""

import secrets
import time
from collections.abc import Mapping
from functools import cache

from lazyfs.store.s3.client import Client
from lazyfs.store.s3.credentials import Profile
from lazyfs.store.s3.location import parse_location
from lazyfs.store.s3.pace import Pace
from lazyfs.store.s3.store import BucketStore
from tests.support.radosgw import Radosgw
from tests.support.s3_admin import make_bucket


def _short_pause(seconds: float) -> None:
    """Waits a fiftieth of the time: the server is on this machine, so retries need no long pauses."""
    time.sleep(seconds / 50)


@cache
def _bucket(port: int, directory: str) -> str:
    """Returns the name of this process's bucket on a server."""
    return f"tests-{secrets.token_hex(4)}"


def new_place(server: Radosgw, bucket: str = "") -> str:
    """Makes the bucket `bucket`, or else this process's own one, if it is missing. Returns a new location in
    it for a store."""
    bucket = bucket or _bucket(server.port, server.directory)
    make_bucket(server, bucket)
    return f"s3://{bucket}/{secrets.token_hex(6)}/store"


def environment(server: Radosgw, url: str | None = None, home: str = "/nonexistent") -> dict[str, str]:
    """Returns the environment variables with which AWS's tools reach a server. `url` replaces the server's
    own address."""
    return {"AWS_ENDPOINT_URL": url or server.url, "HOME": home, **server.account.environment}


def open_client(
    server: Radosgw,
    place: str,
    url: str | None = None,
    *,
    patience: float = 60,
    pace: Pace | None = None,
    variables: Mapping[str, str] | None = None,
) -> Client:
    """Returns a client for the store at a location. `url` is the address of a proxy in front of the
    server."""
    profile = Profile(environment(server, url) if variables is None else variables)
    return Client(parse_location(place), profile, patience=patience, pace=pace, pause=_short_pause)


def open_place(server: Radosgw, place: str, url: str | None = None, *, patience: float = 60) -> BucketStore:
    """Opens the store at a location. `url` is the address of a proxy in front of the server."""
    return BucketStore(open_client(server, place, url, patience=patience))
