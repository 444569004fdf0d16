"""The notation of a store in a bucket: s3://BUCKET[/PREFIX]."""

from typing import NamedTuple

from lazyfs.core.errors import UsageError


class BucketLocation(NamedTuple):
    """A bucket, and the prefix of a store's keys in it."""

    bucket: str
    prefix: str
    """Prefix of the store's keys, without slashes at its ends; empty if the store has the bucket to
    itself."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def parse_location(text: str) -> BucketLocation:
    """Parses s3://BUCKET[/PREFIX]. Raises UsageError, which repeats nothing that may be a secret."""
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if "@" in bucket or ":" in bucket:
        raise UsageError(
            "store s3://...: a bucket's location has no account, secret or port in it. Credentials come from "
            "AWS_PROFILE, ~/.aws/credentials or the environment, the server's address from AWS_ENDPOINT_URL"
        )
    if not bucket or not bucket.isascii() or not bucket.replace("-", "a").replace(".", "a").isalnum():
        raise UsageError(f"store s3://: {bucket!r} is no name of a bucket: write s3://BUCKET/PREFIX")
    parts = prefix.strip("/").split("/")
    if prefix.strip("/") and any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"store s3://{bucket}: prefix {prefix!r} has an empty part, '.' or '..' in it")
    if any(character in prefix for character in "?#%\\") or not prefix.isprintable() or not prefix.isascii():
        raise UsageError(
            f"store s3://{bucket}: prefix {prefix!r} is not of printable ASCII, or has one of ?#%\\"
        )
    return BucketLocation(bucket, "/".join(parts))
