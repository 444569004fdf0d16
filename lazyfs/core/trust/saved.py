"""The form in which a client keeps its trust on disk. Costs no import of python-tuf."""

import msgspec

from lazyfs.core.digest import SIZE, sha256
from lazyfs.core.trust.errors import Malformed
from lazyfs.core.trust.roles import MAX_CHAIN, MAX_SNAPSHOT, MAX_TARGETS, MAX_TIMESTAMP

MAX_SAVED = 2 * (MAX_CHAIN + 2 * (MAX_SNAPSHOT + MAX_TARGETS + MAX_TIMESTAMP))
"""The largest number of bytes of a saved state: JSON within JSON, where every quotation mark takes two."""


class SavedRevision(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A proven revision: its signed files, byte for byte, and the version of the root that proved them."""

    root_version: int = 0
    timestamp: str = ""
    snapshot: str = ""
    targets: str = ""


class Saved(SavedRevision, kw_only=True):
    """The persisted state: the newest revision, if one is proven (`root_version` is 0 otherwise), and the
    roots. JSON whose strings are the signed files, byte for byte."""

    roots: list[str]
    earlier: SavedRevision | None = None
    """The revision that mounts showed before the newest one; None once a mount has shown the newest."""

    def start(self, anchor: bytes | None) -> int | None:
        """Returns the index in `roots` of the root that the anchor names; None if that root is not there.

        `anchor`: a root's bytes, or its fingerprint (a Digest, 32 bytes); None trusts the first root.
        """
        if anchor is None:
            return 0 if self.roots else None
        for place, text in enumerate(map(str.encode, self.roots)):
            if anchor == (sha256(text) if len(anchor) == SIZE else text):
                return place
        return None


_decoder = msgspec.json.Decoder(Saved)


def decode(data: bytes) -> Saved:
    """Decodes a saved state; nothing in it is checked yet. Raises Malformed."""
    if len(data) > MAX_SAVED:
        raise Malformed(f"saved trust of more than {MAX_SAVED} bytes")
    try:
        saved = _decoder.decode(data)
        revisions = [saved] if saved.earlier is None else [saved, saved.earlier]
        files = [text for one in revisions for text in (one.timestamp, one.snapshot, one.targets)]
        for text in (*saved.roots, *files):
            text.encode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Malformed(f"saved trust cannot be read: {error}") from None
    return saved
