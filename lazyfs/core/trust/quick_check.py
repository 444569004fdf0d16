"""Checks a saved state as `state.restore` does, but without python-tuf, whose import takes a quarter of the
time of a mount.

A mount with a trusted revision serves it as soon as this check has passed. It imports the modules for all
else afterwards; then `restore` checks the same bytes again. This check returns None for everything wrong, and
also for valid states that it does not support, such as those with keys other than Ed25519.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.exceptions import FormatError as NotCanonical
from securesystemslib.formats import encode_canonical

from lazyfs.core.digest import sha256
from lazyfs.core.digits import MOST
from lazyfs.core.errors import LazyfsError
from lazyfs.core.params import Revision
from lazyfs.core.trust.revision_fields import TARGET, revision_of
from lazyfs.core.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from lazyfs.core.trust.saved import Saved, SavedRevision, decode

_Fields = dict[str, Any]


class ProvenTarget(msgspec.Struct, frozen=True):
    """A revision whose signatures, versions and hashes hold."""

    revision: Revision
    """The revision that a mount begins with: `TrustState.last_shown`."""
    expires: datetime
    """The expiry date of the newest revision's timestamp."""


class _Refused(Exception):
    """The saved state is wrong, or of a form that this check does not support."""


def proven(data: bytes, anchor: bytes | None) -> ProvenTarget | None:
    """Returns the revision that a mount with this saved state begins with. Returns None if the state holds
    none, or if only `restore` can judge it.

    `anchor`: the bytes of the operator's root, or a Digest, its fingerprint; None trusts the saved root.
    """
    try:
        return _proven(decode(data), anchor)
    except (_Refused, LazyfsError, NotCanonical, LookupError, TypeError, ValueError, AttributeError):
        return None
    except RecursionError:
        return None


def _proven(saved: Saved, anchor: bytes | None) -> ProvenTarget:
    provers = _provers(saved, anchor)
    newest = _proven_target(saved, provers)
    if saved.earlier is None:
        return newest
    return ProvenTarget(_proven_target(saved.earlier, provers).revision, newest.expires)


def _proven_target(saved: SavedRevision, provers: Mapping[int, _Fields]) -> ProvenTarget:
    """Returns one revision of a saved state. `provers`: the roots by version."""
    prover = provers[saved.root_version]
    timestamp = _signed(TIMESTAMP, saved.timestamp, prover)
    named = timestamp["meta"]["snapshot.json"]
    snapshot = _signed(SNAPSHOT, saved.snapshot, prover)
    _check_named(named, saved.snapshot, snapshot)
    named = snapshot["meta"]["targets.json"]
    targets = _signed(TARGETS, saved.targets, prover)
    _check_named(named, saved.targets, targets)
    target = targets["targets"][TARGET]
    revision = revision_of(targets["version"], target["custom"], target["hashes"], target["length"])
    return ProvenTarget(revision, datetime.fromisoformat(timestamp["expires"]))


def _provers(saved: Saved, anchor: bytes | None) -> dict[int, _Fields]:
    """Returns the roots by version. Raises _Refused unless each root after the anchor's is signed by its own
    keys and by those of the root before it, and no root is left out."""
    start = saved.start(anchor)
    if start is None:
        raise _Refused
    found: dict[int, _Fields] = {}
    before: _Fields | None = None
    for text in saved.roots[start:]:
        envelope = json.loads(text)
        root: _Fields = envelope["signed"]
        _check_signatures(ROOT, envelope, root)
        if before is not None:
            _check_signatures(ROOT, envelope, before)
            if root["version"] != before["version"] + 1:
                raise _Refused
        before = found[root["version"]] = root
    return found


def _signed(role: str, text: str, prover: _Fields) -> _Fields:
    envelope = json.loads(text)
    _check_signatures(role, envelope, prover)
    signed: _Fields = envelope["signed"]
    return signed


def _check_signatures(role: str, envelope: _Fields, prover: _Fields) -> None:
    """Raises _Refused unless the file is of this role and enough of the role's keys have signed it.
    `envelope`: the parsed file. `prover`: the root that names the keys."""
    signed = envelope["signed"]
    if signed["_type"] != role or not _is_version(signed["version"]):
        raise _Refused
    payload = encode_canonical(signed)
    signatures = {one["keyid"]: one["sig"] for one in envelope["signatures"]}
    threshold = prover["roles"][role]["threshold"]
    if payload is None or len(signatures) != len(envelope["signatures"]) or threshold < 1:
        raise _Refused
    valid = 0
    for keyid in set(prover["roles"][role]["keyids"]):
        if keyid in signatures and _is_valid(prover["keys"][keyid], signatures[keyid], payload.encode()):
            valid += 1
    if valid < threshold:
        raise _Refused


def _is_valid(key: _Fields, signature: str, payload: bytes) -> bool:
    if (key["keytype"], key["scheme"]) != ("ed25519", "ed25519"):
        raise _Refused
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key["keyval"]["public"]))
        public.verify(bytes.fromhex(signature), payload)
    except InvalidSignature:
        return False
    return True


def _check_named(named: Mapping[str, Any], text: str, signed: _Fields) -> None:
    """Raises _Refused unless the file is the one that signed metadata names. `named`: the version, and
    perhaps the length and hashes, that the metadata states. `text`, `signed`: the file, and the signed part
    of it."""
    data = text.encode()
    hashes = named.get("hashes", {})
    if (
        named.get("length", len(data)) != len(data)
        or hashes.keys() - {"sha256"}
        or ("sha256" in hashes and hashes["sha256"] != sha256(data).hex())
        or named["version"] != signed["version"]
    ):
        raise _Refused


def _is_version(value: object) -> bool:
    return type(value) is int and 0 < value < MOST
