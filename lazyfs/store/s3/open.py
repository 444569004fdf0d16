"""Opens the store at an `s3://` location, with credentials and addresses as AWS's tools find them."""

import os

from lazyfs.store.s3.client import Client
from lazyfs.store.s3.credentials import Profile
from lazyfs.store.s3.location import parse_location
from lazyfs.store.s3.store import BucketStore


def open_bucket(location: str) -> BucketStore:
    """Returns the store at s3://BUCKET/PREFIX; no request is made. Raises UsageError for a location or a
    profile that cannot be used."""
    return BucketStore(Client(parse_location(location), Profile(os.environ)))
