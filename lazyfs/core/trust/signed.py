"""The parsing of one signed file, and the count of its role's valid signatures."""

from datetime import UTC, datetime
from typing import TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from lazyfs.core.digits import MOST
from lazyfs.core.trust.errors import Expired, Malformed, MixedUp, ThresholdNotMet, TooLarge, WrongKey
from lazyfs.core.trust.roles import MAX_ROOT, ROOT

T = TypeVar("T", Root, Snapshot, Targets, Timestamp)


def load(kind: type[T], data: bytes, root: Root, limit: int) -> T:
    """Returns the content of a file signed by the role's keys in `root`.

    Raises TooLarge for more than `limit` bytes, Malformed, WrongKey or ThresholdNotMet.
    """
    metadata = _parse(kind, data, limit)
    result = root.get_verification_result(kind.type, metadata.signed_bytes, metadata.signatures)
    _judge(f"{kind.type} version {metadata.signed.version}", len(result.signed), result.threshold)
    return metadata.signed


def load_root(data: bytes, previous: Root | None) -> Root:
    """Returns a root signed by its own keys and, if `previous` is given, by those of the root before it.

    Raises TooLarge for more than MAX_ROOT bytes, and as `load`.
    """
    metadata = _parse(Root, data, MAX_ROOT)
    name = f"root version {metadata.signed.version}"
    if previous:
        before = previous.get_verification_result(ROOT, metadata.signed_bytes, metadata.signatures)
        _judge(f"{name} (by version {previous.version})", len(before.signed), before.threshold)
    own = metadata.signed.get_verification_result(ROOT, metadata.signed_bytes, metadata.signatures)
    _judge(f"{name} (by itself)", len(own.signed), own.threshold)
    return metadata.signed


def check_shape(kind: type[T], data: bytes, limit: int) -> None:
    """Raises TooLarge or Malformed for bytes that cannot be a file of this kind, signed or not."""
    _parse(kind, data, limit)


def check_fresh(signed: Root | Snapshot | Targets | Timestamp, now: datetime) -> None:
    """Raises Expired if `signed` is past its date."""
    if signed.is_expired(now):
        raise Expired(
            f"{signed.type} version {signed.version} expired on {when(signed.expires)}: the publisher must "
            "run `lazyfs repo resign`, or this machine's clock is wrong"
        )


def check_named(name: str, data: bytes, length: int | None, hashes: dict[str, str] | None) -> None:
    """Raises MixedUp unless `data` has the length and hashes that signed metadata states."""
    try:
        MetaFile(1, length, hashes).verify_length_and_hashes(data)
    except (LengthOrHashMismatchError, ValueError) as error:
        raise MixedUp(f"{name} is not the file that the signed metadata names: {error}") from None


def when(moment: datetime) -> str:
    """Returns a moment in the form that messages show."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse(kind: type[T], data: bytes, limit: int) -> Metadata[T]:
    if len(data) > limit:
        raise TooLarge(f"{kind.type} metadata of {len(data)} bytes is over the limit of {limit}")
    try:
        metadata = Metadata[T].from_bytes(data)
        # Canonical encoding fails on values that JSON can hold and signed bytes cannot.
        metadata.signed_bytes  # noqa: B018
    except (RepositoryError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed(f"{kind.type} metadata cannot be read: {str(error)[:200]}") from None
    if metadata.signed.type != kind.type:
        raise Malformed(f"{kind.type} metadata was asked for, {metadata.signed.type} metadata came")
    for version in _versions(metadata.signed):
        if not 0 < version < MOST:  # JSON allows a number of 4,300 digits; a file's name does not
            raise Malformed(f"{kind.type} metadata has a version outside 1 to {MOST}")
    return metadata


def _versions(signed: Root | Snapshot | Targets | Timestamp) -> list[int]:
    """Returns the file's own version, and those of the files that it names."""
    named = [signed.snapshot_meta] if isinstance(signed, Timestamp) else []
    named += signed.meta.values() if isinstance(signed, Snapshot) else []
    return [signed.version, *(meta.version for meta in named)]


def _judge(name: str, valid: int, threshold: int) -> None:
    if not valid:
        raise WrongKey(
            f"{name} is not signed by any key of its role: it comes from another repository, or from "
            "somebody without the keys"
        )
    if valid < threshold:
        raise ThresholdNotMet(f"{name} is signed by {valid} of the {threshold} keys its role demands")
