"""The anchor of trust that the operator gives a client: a root file, or its fingerprint."""

import os

from lazyfs.core.chain.notation import without_secrets
from lazyfs.core.digest import Digest, parse_hex
from lazyfs.core.errors import FormatError, TrustError, UsageError
from lazyfs.core.trust.roles import MAX_ROOT, ROOT, file_name
from lazyfs.core.trust.state import TrustState, bootstrap

Anchor = TrustState | Digest


def read_anchor(text: str) -> Anchor:
    """Returns the anchor for a text: a fingerprint (64 hex digits, with or without `sha256:`), or the path of
    a root.json of any version.

    Raises UsageError for any other text.
    """
    try:
        return parse_hex(text.lower())
    except FormatError:
        pass
    try:
        with open(text, "rb") as file:
            return bootstrap(file.read(MAX_ROOT + 1))
    except OSError as error:
        raise UsageError(
            f"--trust {text}: neither a fingerprint of 64 hex digits nor a readable root file "
            f"({error.strerror}); `lazyfs repo show STORE` prints the fingerprint"
        ) from None
    except ValueError:  # a name with NUL
        raise UsageError(f"--trust {text!r}: neither a fingerprint of 64 hex digits nor a file") from None
    except TrustError as error:
        raise UsageError(f"--trust {text}: not a root file: {error}") from None


def anchor_of_directory(store: str) -> Anchor:
    """Returns the first root of a store directory on this machine, whose writers are trusted already.

    Raises UsageError if there is none.
    """
    path = os.path.join(store, "metadata", file_name(ROOT, 1))
    try:
        with open(path, "rb") as file:
            return bootstrap(file.read(MAX_ROOT + 1))
    except (OSError, TrustError) as error:
        raise UsageError(f"store {store} holds no repository: {path}: {error}") from None


def anchor_of(url: str, trust: str | None) -> Anchor | UsageError:
    """Returns the anchor from which trust in a repository begins. If there is none, returns an error, which
    the caller raises unless a revision is trusted already. `trust`: the operator's root file or fingerprint.
    Raises UsageError if `trust` is invalid."""
    if trust:
        return read_anchor(trust)
    if "://" in url:
        return UsageError(
            f"{without_secrets(url)} is mounted for the first time: say what to trust with "
            f"--trust ROOT.json or --trust FINGERPRINT (`lazyfs repo show STORE` prints it)"
        )
    try:
        return anchor_of_directory(url)
    except UsageError as error:
        return error
