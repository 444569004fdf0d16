"""Reads one repository of a registry: manifests, blobs and tags. Resumes a blob where a connection broke.

A blob whose transfer broke is continued by a Range request from the last byte received. Blobs are not
verified here, because their reader hashes them anyway.
"""

import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import msgspec

from lazyfs.core.digest import sha256
from lazyfs.core.errors import DigestMismatch, FormatError, NotFound, TransportError, Unknown, UsageError
from lazyfs.core.oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    Descriptor,
    refuse_schema1,
)
from lazyfs.core.oci.reference import Reference, is_tag
from lazyfs.core.registry.access import ATTEMPTS, MAX_PAUSE
from lazyfs.core.registry.steps import Kind, Privacy
from lazyfs.core.shown_address import shown_address
from lazyfs.images.registry.addresses import joined
from lazyfs.images.registry.conversation import Conversation
from lazyfs.images.registry.problems import BROKEN, Failed, explain
from lazyfs.images.registry.replies import resumed_at
from lazyfs.images.registry.transfer_rate import LEAST, TransferRate
from lazyfs.images.registry.wire import Reply

MAX_TAGS = 100_000
MAX_TAG_PAGE = 16 << 20
MAX_TAG_PAGES = 2000
"""The largest number of pages of a list of tags. Some registries put only 50 or 100 tags on a page, whatever
number is asked for."""
TAGS_TIME = 1800.0
"""Seconds for reading all pages of a list of tags."""
MAX_BLOB = 256 << 30
"""The largest size in bytes that a manifest may state for a layer. The largest layers known, with models in
them, have half of it."""
BLOB_TIME, BLOB_RATE = 600.0, LEAST
"""A blob may take BLOB_TIME seconds, and one more for each BLOB_RATE bytes."""
PROGRESS = 64 << 10
"""An answer that breaks off counts as progress if it brought this many bytes."""

_ACCEPT = ", ".join((OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, f"{SCHEMA1}+prettyjws"))


class _Tags(msgspec.Struct):
    tags: list[str] | None


_tags = msgspec.json.Decoder(_Tags)
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*rel="?next"?')


class RegistryClient:
    """Reads one repository of a registry."""

    def __init__(
        self,
        reference: Reference,
        conversation: Conversation,
        *,
        pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reference = reference
        self._conversation = conversation
        self._pause = pause
        self._now = now

    def manifest(self, wanted: str) -> bytes:
        """Returns a manifest or index by tag or digest. Compares it with that digest, or with the one that
        the answer states.

        Raises NotFound, DigestMismatch, FormatError, UsageError or TransportError.
        """
        hashed = wanted.startswith("sha256:")
        path, accept = f"manifests/{wanted}", {"Accept": _ACCEPT}
        with self._conversation.request(path, Kind.MANIFEST, accept, hashed=hashed) as reply:
            data = self._small(reply, MAX_MANIFEST)
            stated = reply.headers.get("Docker-Content-Digest", "")
        self._check(data, wanted if hashed else stated)
        return data

    def _check(self, data: bytes, expected: str) -> None:
        """Compares a manifest with the digest `expected`, if that is a SHA-256. Raises DigestMismatch, or
        UsageError for the oldest form of manifests."""
        if expected.startswith("sha256:") and f"sha256:{sha256(data).hex()}" != expected:
            # of schema 1, registries state the digest of a part only
            refuse_schema1(data, str(self._reference))
            raise DigestMismatch(f"{self._reference}: the manifest does not match its digest {expected}")

    def digest(self, wanted: str) -> str:
        """Returns the digest of a manifest or index by tag, asked for with HEAD. Asks again with GET if the
        registry does not know HEAD, or if the answer to HEAD states no digest or is 404: only a body has the
        reason.

        Raises as `manifest`; Unknown if the registry itself says that there is none.
        """
        try:
            with self._conversation.request(
                f"manifests/{wanted}", Kind.MANIFEST, {"Accept": _ACCEPT}, method="HEAD"
            ) as reply:
                data = self._small(reply, MAX_MANIFEST)  # so that the connection is kept; empty after HEAD
                stated = reply.headers.get("Docker-Content-Digest", "")
                if data:
                    self._check(data, stated)
                    return f"sha256:{sha256(data).hex()}"
                if _DIGEST.fullmatch(stated):
                    return stated
        except NotFound:
            pass
        return f"sha256:{sha256(self.manifest(wanted)).hex()}"

    @property
    def privacy(self) -> Privacy:
        """The privacy of the repository, as all requests so far have shown it."""
        return self._conversation.privacy

    @property
    def account_answered(self) -> bool:
        """True if the registry accepted the account: it served a request made with the account, or answered
        such a request with 404."""
        return self._conversation.account_answered

    def small_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """Returns the bytes of a blob, verified. Raises as `manifest`."""
        if descriptor.size > limit:
            raise FormatError(
                f"{self._reference}: blob {descriptor.digest} has {descriptor.size} bytes, over {limit}"
            )
        data = b"".join(self.blob(descriptor))
        if len(data) != descriptor.size or sha256(data) != descriptor.hash:
            raise DigestMismatch(
                f"{self._reference}: the bytes of blob {descriptor.digest} do not match its digest"
            )
        return data

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yields the bytes of a blob in parts, resumed where the connection breaks. They are not verified,
        and exceed the stated size by at most one part. Raises NotFound, UsageError, FormatError or
        TransportError."""
        if descriptor.size > MAX_BLOB:
            raise FormatError(
                f"{self._reference}: blob {descriptor.digest} is said to have {descriptor.size} bytes, over "
                f"{MAX_BLOB}"
            )
        rate = TransferRate(f"{self._reference}: blob {descriptor.digest}", self._now)
        path = f"blobs/{descriptor.digest}"
        end = self._now() + BLOB_TIME + descriptor.size / BLOB_RATE
        got = failures = 0
        while got < descriptor.size:
            before = got
            problem = "the connection ended early"
            headers = {"Range": f"bytes={got}-"} if got else {}
            with self._conversation.request(path, Kind.BLOB, headers, hashed=True) as reply:
                skip = got if reply.status == 200 else self._resumed(reply, got)
                try:
                    for part in rate.watched(reply.parts()):
                        dropped = min(skip, len(part))
                        skip -= dropped
                        if dropped < len(part):
                            got += len(part) - dropped
                            yield part[dropped:]
                        if got > descriptor.size:
                            return  # the reader finds that the blob is too large
                        if self._now() > end:
                            raise TransportError(
                                f"{self._reference}: blob {descriptor.digest} comes too slowly: {got} of "
                                f"{descriptor.size} bytes so far"
                            )
                except Failed as error:
                    raise TransportError(f"{self._reference}: {error}") from None
                except BROKEN as error:
                    problem = explain(error, str(reply.origin)).text
            if got < min(before + PROGRESS, descriptor.size):
                failures += 1
                if failures >= ATTEMPTS:
                    raise TransportError(
                        f"{self._reference}: blob {descriptor.digest} breaks off after {got} of "
                        f"{descriptor.size} bytes, {failures} times: {problem}"
                    )
                self._pause(min(2.0 ** (failures - 1), MAX_PAUSE))
            else:
                failures = 0

    def tags(self) -> list[str]:
        """Returns all tags, from every page of the registry's list. Raises TransportError, or FormatError if
        they are too many or on too many pages."""
        url = "tags/list?n=1000"
        base = self._conversation.base
        seen: set[str] = set()
        tags: list[str] = []
        end = self._now() + TAGS_TIME
        while url not in seen and len(seen) < MAX_TAG_PAGES:
            seen.add(url)
            page, following = self._tag_page(url, begun=len(seen) > 1)
            tags.extend(page)
            if len(tags) > MAX_TAGS:
                raise FormatError(f"{self._reference}: it has more than {MAX_TAGS} tags")
            if not following:
                return tags
            if self._now() > end:
                raise TransportError(
                    f"{self._reference}: the list of tags takes over {TAGS_TIME:.0f} s: {len(tags)} tags on "
                    f"{len(seen)} pages so far"
                )
            try:
                url = joined(joined(base, url), following[1])
            except Failed as error:
                raise FormatError(f"{self._reference}: the next page of tags: {error}") from None
            if urlsplit(url)[:2] != urlsplit(base)[:2]:
                raise FormatError(
                    f"{self._reference}: the next page of tags is on another server: {shown_address(url)}"
                )
        raise FormatError(f"{self._reference}: the list of tags does not end ({len(seen)} pages)")

    def _tag_page(self, url: str, *, begun: bool) -> tuple[list[str], re.Match[str] | None]:
        """Returns the tags of one page, and the match of the Link to the next page, None on the last one.
        Raises as `tags`. If the registry calls the repository unknown after the list has `begun`, raises
        TransportError, because that proves nothing."""
        try:
            with self._conversation.request(url, Kind.TAGS) as reply:
                page = self._tags_of(self._small(reply, MAX_TAG_PAGE))
                return page, _NEXT.search(reply.headers.get("Link", ""))
        except Unknown as error:
            if not begun:
                raise
            raise TransportError(f"{self._reference}: the list of tags broke off: {error}") from None

    def check_public(self, blob: Descriptor) -> None:
        """Raises UsageError if the repository may be private: a rate limit made an account necessary, and no
        blob was served anonymously. Asks for `blob` to find out."""
        if self._conversation.privacy is not Privacy.UNPROVEN:
            return
        for _ in self.blob(blob):
            break
        if self._conversation.privacy is Privacy.UNPROVEN:
            raise UsageError(
                f"{self._reference}: the registry limits anonymous pulls and served it to the account, so it "
                "cannot be known whether it is public: try again later, or say --allow-public"
            )

    def _tags_of(self, data: bytes) -> list[str]:
        try:
            return [tag for tag in _tags.decode(data).tags or [] if is_tag(tag)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise FormatError(f"{self._reference}: the list of tags is not one") from None

    def _resumed(self, reply: Reply, got: int) -> int:
        """Checks that the answer continues the blob at byte `got`, and raises TransportError if not. Returns
        0, the number of bytes to skip at the beginning of the answer."""
        if reply.status != 206 or resumed_at(reply.headers) != got:
            raise TransportError(f"{self._reference}: the registry resumes a blob at the wrong byte")
        return 0

    def _small(self, reply: Reply, limit: int) -> bytes:
        """Returns the whole of a small body. If the connection breaks, raises TransportError and does not ask
        again."""
        try:
            return reply.small(limit)
        except Failed as error:
            raise TransportError(f"{self._reference}: {error}") from None
        except FormatError as error:
            raise FormatError(f"{self._reference}: {error}") from None
