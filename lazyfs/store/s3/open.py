"""Opens the store at an `s3://` location, or a folder of web files beside the store. *Web files* are files
that the store's web server serves besides objects and metadata, such as status pages. Credentials and
addresses are found as AWS's tools find them."""

import os

from lazyfs.store.s3.client import Client
from lazyfs.store.s3.credentials import Profile
from lazyfs.store.s3.location import parse_location
from lazyfs.store.s3.store import BucketStore
from lazyfs.store.s3.web_files import BucketFiles


def open_bucket(location: str) -> BucketStore:
    """Returns the store at s3://BUCKET/PREFIX; no request is made. Raises UsageError for a location or an AWS
    profile that cannot be used."""
    return BucketStore(_client(location))


def open_bucket_files(location: str, folder: str) -> BucketFiles:
    """Returns the web files in `folder`, a folder beside the objects of the store at s3://BUCKET/PREFIX.
    Raises as `open_bucket`."""
    return BucketFiles(_client(location), folder)


def _client(location: str) -> Client:
    return Client(parse_location(location), Profile(os.environ))
