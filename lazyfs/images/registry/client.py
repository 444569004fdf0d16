"""One repository of a registry: requests that are repeated where that helps, and resumed where they broke.

429 and 5xx are waited out as Retry-After says, or with doubling pauses; a broken blob goes on with a Range
request from the last byte; a token that has expired is renewed. Blobs are not verified here: who reads them
hashes them anyway.
"""

import email.utils
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import urljoin, urlsplit

import msgspec
import requests
import urllib3

from lazyfs.core.digest import sha256
from lazyfs.core.digits import natural
from lazyfs.core.errors import DigestMismatch, FormatError, NotFound, TransportError, UsageError
from lazyfs.core.oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    Descriptor,
)
from lazyfs.core.oci.reference import HUB, Reference
from lazyfs.images.registry.credentials import Credentials
from lazyfs.images.registry.tokens import Authorizer, Refused, TooLong, bounded

ATTEMPTS = 6
"""Tries without progress: with doubling pauses from one second, half a minute of a registry that is down."""
MAX_PAUSE = 300.0
"""Seconds of a Retry-After that are waited; who asks for more is not waited for."""
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two bytes."""
PART = 1 << 20
MAX_TAGS = 100_000

_ACCEPT = ", ".join((OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, f"{SCHEMA1}+prettyjws"))
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?')


class _Tags(msgspec.Struct):
    tags: list[str] | None


_tags = msgspec.json.Decoder(_Tags)


def api_host(registry: str) -> str:
    """Where the API of a registry is."""
    return f"registry-1.{HUB}" if registry == HUB else registry


def no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """requests would replace the token by what ~/.netrc has for the host."""
    return request


class RegistryClient:
    """Reads one repository. Tries without an account first, so that it knows whether the image is private."""

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None,
        *,
        plain_http: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reference = reference
        self._credentials = credentials
        self._pause = pause
        scheme = "http" if plain_http else "https"
        self._base = f"{scheme}://{api_host(reference.registry)}/v2/{reference.repository}/"
        self._session = requests.Session()
        self._session.auth = no_netrc
        self._session.headers["User-Agent"] = "lazyfs"
        self._session.headers["Accept-Encoding"] = "identity"
        scope = f"repository:{reference.repository}:pull"
        self._authorizer = Authorizer(self._session, scope, plain_http=plain_http, timeout=TIMEOUT)
        self._account: Credentials | None = None
        self.private = False
        """Whether the registry has refused an anonymous pull."""

    def close(self) -> None:
        self._session.close()

    def manifest(self, wanted: str) -> bytes:
        """A manifest or index by tag or digest, compared with the digest it was asked for by or stated with.

        Raises NotFound, DigestMismatch, FormatError or TransportError.
        """
        answer = self._request(f"manifests/{wanted}", {"Accept": _ACCEPT})
        with answer:
            data = self._bounded(answer, MAX_MANIFEST)
            stated = answer.headers.get("Docker-Content-Digest", "")
        expected = wanted if wanted.startswith("sha256:") else stated
        if expected.startswith("sha256:") and f"sha256:{sha256(data).hex()}" != expected:
            raise DigestMismatch(f"{self._reference}: the manifest does not match its digest {expected}")
        return data

    def small_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A blob held in memory, verified. Raises as `manifest`."""
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
        """A blob's bytes in parts, resumed where the connection breaks; not verified, but never more than
        its size and one part. Raises NotFound or TransportError."""
        path = f"blobs/{descriptor.digest}"
        got = failures = 0
        while got < descriptor.size:
            before = got
            problem = "the connection ended early"
            try:
                headers = {"Range": f"bytes={got}-"} if got else {}
                with self._request(path, headers) as answer:
                    skip = got if answer.status_code == 200 else self._resumed_at(answer, got)
                    for part in answer.raw.stream(PART, decode_content=False):
                        dropped = min(skip, len(part))
                        skip -= dropped
                        if dropped < len(part):
                            got += len(part) - dropped
                            yield part[dropped:]
                        if got > descriptor.size:
                            return  # the reader sees that it is too much
            except _BROKEN as error:
                problem = _reason(error)
            if got == before:
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
        """All tags, over as many pages as the registry makes of them. Raises TransportError."""
        url = "tags/list?n=1000"
        seen: set[str] = set()
        tags: list[str] = []
        while url not in seen and len(tags) < MAX_TAGS:
            seen.add(url)
            with self._request(url, {}) as answer:
                try:
                    tags += _tags.decode(self._bounded(answer, 16 << 20)).tags or []
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    raise FormatError(f"{self._reference}: the list of tags is not one") from None
                following = _NEXT.search(answer.headers.get("Link", ""))
            if not following:
                return tags
            url = urljoin(urljoin(self._base, url), following[1])
            if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
                raise FormatError(f"{self._reference}: the next page of tags is on another server: {url}")
        raise FormatError(f"{self._reference}: the list of tags does not end")

    def _request(self, path: str, headers: dict[str, str]) -> requests.Response:
        """A successful answer, its body unread."""
        url = urljoin(self._base, path)
        renewals = failures = 0
        while True:
            sent = self._authorizer.header
            extra = {"Authorization": sent} if sent else {}
            try:
                answer = self._session.get(url, headers={**headers, **extra}, stream=True, timeout=TIMEOUT)
                if answer.status_code in (401, 403):
                    renewals += 1
                    answer.close()
                    self._authorize(answer, sent, renewals)
                    continue
            except _BROKEN as error:
                failures += 1
                if failures >= ATTEMPTS:
                    raise TransportError(f"{self._reference}: {_reason(error)}, {failures} times") from None
                self._pause(2.0 ** (failures - 1))
                continue
            if answer.ok:
                return answer
            answer.close()
            status = answer.status_code
            if status != 429 and status < 500:
                self._fail(status, path)
            failures += 1
            wait = _retry_after(answer) or 2.0 ** (failures - 1)
            if failures >= ATTEMPTS or wait > MAX_PAUSE:
                kind = "it limits the rate of requests" if status == 429 else "it fails"
                asked = f" and asks to wait {wait:.0f} s" if wait > MAX_PAUSE else ""
                raise TransportError(
                    f"{self._reference}: the registry answers {status} ({kind}){asked}: try again later"
                )
            self._pause(wait)

    def _authorize(self, answer: requests.Response, sent: str | None, renewals: int) -> None:
        """Sets the header for the next try after a 401 or 403; raises UsageError if nobody is left to ask as.

        The first two refusals of a request may mean that there is no token yet, or that it has expired; a
        third one of an anonymous token means that the image is private.
        """
        challenge = answer.headers.get("WWW-Authenticate", "")
        refusal = f"it answered {answer.status_code}"
        final = renewals > (4 if self._account else 2)
        if answer.status_code == 401 and not final:
            try:
                self._authorizer.renew(sent, challenge, self._account)
                return
            except Refused as error:
                refusal = str(error)
        self.private = True
        if self._account is None and self._credentials is not None:
            self._account = self._credentials
            self._authorizer.forget()
            return
        who = f"the account {self._account.username!r}" if self._account else "an anonymous pull"
        raise UsageError(
            f"{self._reference}: the registry refuses {who} ({refusal}): log in with docker or podman login, "
            "or give --username and --password-file"
        )

    def _fail(self, status: int, path: str) -> None:
        if status == 404:
            raise NotFound(f"{self._reference}: the registry has no {path.split('?')[0]}")
        raise TransportError(f"{self._reference}: the registry answers {status} to {path}")

    def _resumed_at(self, answer: requests.Response, got: int) -> int:
        """0 if the partial answer starts where it must."""
        start = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if answer.status_code != 206 or natural(start) != got:
            raise TransportError(f"{self._reference}: the registry resumes a blob at the wrong byte")
        return 0

    def _bounded(self, answer: requests.Response, limit: int) -> bytes:
        """A small body, whole. A connection that breaks here is an error; the caller's request is small."""
        try:
            return bounded(answer, limit)
        except TooLong:
            raise FormatError(f"{self._reference}: an answer of over {limit} bytes") from None
        except _BROKEN as error:
            raise TransportError(f"{self._reference}: {_reason(error)}") from None


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds to wait, from a count or a date."""
    text = answer.headers.get("Retry-After", "")
    seconds = natural(text)
    if seconds is not None:
        return max(float(seconds), 0.1)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.1)
    except (ValueError, OverflowError):
        return None


def _reason(error: Exception) -> str:
    """The innermost reason, in a few words: requests wraps urllib3, which wraps the system's."""
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    return str(getattr(inner, "strerror", None) or str(inner) or type(error).__name__)[:200]
