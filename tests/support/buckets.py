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
    """Waits for a part of the time that a distant server would be given."""
    time.sleep(seconds / 50)


@cache
def _bucket(port: int, directory: str) -> str:
    """Returns the bucket that this process has made on a server."""
    return f"tests-{secrets.token_hex(4)}"


def new_place(server: Radosgw, bucket: str = "") -> str:
    """Returns the location of a store that is not there yet, in a bucket of this process or one of this
    name."""
    bucket = bucket or _bucket(server.port, server.directory)
    make_bucket(server, bucket)
    return f"s3://{bucket}/{secrets.token_hex(6)}/store"


def environment(server: Radosgw, url: str | None = None, home: str = "/nonexistent") -> dict[str, str]:
    """Returns the variables with which AWS's tools reach a server, at its own address or another."""
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
    """Returns a client for a store. `url`: of a proxy before the server."""
    profile = Profile(environment(server, url) if variables is None else variables)
    return Client(parse_location(place), profile, patience=patience, pace=pace, pause=_short_pause)


def open_place(server: Radosgw, place: str, url: str | None = None, *, patience: float = 60) -> BucketStore:
    """Returns a store. `url`: of a proxy before the server."""
    return BucketStore(open_client(server, place, url, patience=patience))
