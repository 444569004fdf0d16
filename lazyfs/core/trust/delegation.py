"""The delegated role that signs collected profiles, and nothing else.

The publisher's targets name the role's keys. The role signs one file, metadata/profiles.json, whose one
target names the list of collected profiles. No client looks for a revision there, and no key of the role
counts for a file that leads to one. The snapshot file does not name this file, whose version changes whenever
the collector of start reports publishes, and this collector cannot sign a snapshot. An older file that is
still valid may therefore be replayed; it only leads to older profiles.
"""

from typing import Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, TargetFile, Targets

from lazyfs.core.collected_profiles import MAX_SIZE
from lazyfs.core.digest import ObjectRef, parse_hex
from lazyfs.core.errors import FormatError
from lazyfs.core.trust.errors import Malformed, ThresholdNotMet, TooLarge, WrongKey
from lazyfs.core.trust.roles import PROFILES, PROFILES_FILE

TARGET: Final = "profiles"
"""The target's path, and the only one that the role may sign."""
MAX_FILE: Final = 16_384
"""The largest number of bytes of the signed file; it has about 600."""


def delegations(keys: list[Key]) -> Delegations:
    """Returns the part of a targets file that delegates the signing of profiles to these keys. One signature,
    by any of them, is enough."""
    ids = [key.keyid for key in keys]
    role = DelegatedRole(PROFILES, ids, 1, terminating=True, paths=[TARGET])
    return Delegations({key.keyid: key for key in keys}, {PROFILES: role})


def is_delegated(targets: Targets) -> bool:
    """Returns True if the publisher has delegated the signing of profiles."""
    found = targets.delegations
    return found is not None and bool(found.roles) and PROFILES in (found.roles or {})


def to_targets(listed: ObjectRef, version: int) -> Targets:
    """Returns the content of the signed file, without its expiry."""
    target = TargetFile(listed.size, {"sha256": listed.digest.hex()}, TARGET)
    return Targets(version, targets={TARGET: target})


def load_profiles(data: bytes, publisher: Targets) -> tuple[Targets, ObjectRef]:
    """Returns the targets metadata in a file that the role signed, and the list of profiles that it names.
    `publisher`: the targets of the trusted revision. Does not check the expiry date; the caller does.

    Raises WrongKey if the publisher has delegated nothing, or has delegated to other keys than those that
    signed the file; TooLarge, Malformed, ThresholdNotMet.
    """
    if len(data) > MAX_FILE:
        raise TooLarge(f"{PROFILES_FILE} of {len(data)} bytes is over the limit of {MAX_FILE}")
    if not is_delegated(publisher):
        raise WrongKey(f"{PROFILES_FILE}: the publisher lets nobody sign profiles")
    try:
        metadata = Metadata[Targets].from_bytes(data)
        payload = metadata.signed_bytes
        if metadata.signed.type != "targets":
            raise Malformed(f"{PROFILES_FILE} holds {metadata.signed.type} metadata")
        result = publisher.get_verification_result(PROFILES, payload, metadata.signatures)
    except (RepositoryError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed(f"{PROFILES_FILE} cannot be read: {str(error)[:200]}") from None
    if not result.signed:
        raise WrongKey(f"{PROFILES_FILE} is not signed by a key that may sign profiles")
    if len(result.signed) < result.threshold:
        raise ThresholdNotMet(f"{PROFILES_FILE} is signed by {len(result.signed)} keys of {result.threshold}")
    return metadata.signed, _listed(metadata.signed)


def _listed(targets: Targets) -> ObjectRef:
    if set(targets.targets) != {TARGET} or targets.delegations is not None:
        raise Malformed(f"{PROFILES_FILE} names anything but one list of profiles")
    target = targets.targets[TARGET]
    try:
        ref = ObjectRef(parse_hex(target.hashes["sha256"]), target.length)
    except (KeyError, FormatError) as error:
        raise Malformed(f"{PROFILES_FILE} names its list without a digest: {error}") from None
    if not 0 < ref.size <= MAX_SIZE:
        raise Malformed(f"{PROFILES_FILE} names a list of {ref.size} bytes, over {MAX_SIZE}")
    return ref
