"""Answers to a registry's challenges: Basic, or a Bearer token from its token server.

Protocol: distribution-spec, and docs/spec/auth/token.md and oauth.md of the distribution project.
"""

import re
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from lazyfs.core.errors import FormatError, LazyfsError
from lazyfs.core.registry.challenges import Challenge
from lazyfs.core.registry.reasons import MAX_BODY, reason_of
from lazyfs.core.registry.steps import Answer, Ask, Identity
from lazyfs.core.shown_address import shown_address
from lazyfs.images.registry.addresses import origin_of
from lazyfs.images.registry.credentials import Credentials
from lazyfs.images.registry.problems import Failed
from lazyfs.images.registry.replies import retry_after
from lazyfs.images.registry.wire import Reply, Wire

MAX_TOKEN = 1 << 17
"""The largest size in bytes of a token server's answer: tokens with long lists of groups have been seen at 20
KB."""
_TOKEN = re.compile(r"[\x21-\x7e]+")


class _Answer(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None


_answer = msgspec.json.Decoder(_Answer)


class Denied(Exception):
    """The challenge cannot be answered; `answer` has the reason."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


class Busy(Exception):
    """The token server is busy; `answer` has the time to wait."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


class Authorizer:
    """Makes Authorization fields for one repository of a registry."""

    def __init__(self, wire: Wire, scope: str, *, plain_http: bool, wall: Callable[[], float]) -> None:
        """`wall`: seconds since 1970, for a Retry-After that is a date."""
        self._wire = wire
        self._scope = scope
        self._schemes = ("https", "http") if plain_http else ("https",)
        self._wall = wall

    def field(self, ask: Ask, account: Credentials | None) -> str:
        """Returns the Authorization field that answers the challenge. Raises Denied, Busy, or the
        connection's exceptions."""
        credentials = account if ask.identity is Identity.ACCOUNT else None
        if ask.challenge.scheme == "basic":
            if credentials is None or not (credentials.username or credentials.password):
                raise Denied(Answer(401, reason="it wants a user name and a password, not a token"))
            return credentials.basic
        if credentials and credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        return f"Bearer {self._token(ask.challenge, credentials)}"

    def _token(self, challenge: Challenge, credentials: Credentials | None) -> str:
        realm = challenge.value("realm")
        if not self._allowed(realm):
            reason = f"its token server {shown_address(realm)!r} is not an {self._schemes[0]} address"
            raise Denied(Answer(401, reason=reason))
        with self._asked(realm, challenge, credentials) as reply:
            if reply.status != 200:
                self._fail(reply, credentials)
            try:
                found = _answer.decode(reply.small(MAX_TOKEN))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, FormatError):
                found = _Answer()
        token = found.token or found.access_token or ""
        if not _TOKEN.fullmatch(token):
            raise Denied(Answer(401, reason="its token server answered without a token"))
        return token

    def _allowed(self, realm: str) -> bool:
        try:
            return origin_of(realm).scheme in self._schemes
        except Failed:
            return False

    def _asked(self, realm: str, challenge: Challenge, credentials: Credentials | None) -> Reply:
        query = [("service", challenge.value("service")), ("scope", challenge.value("scope") or self._scope)]
        if credentials and credentials.identity_token:
            form = {
                **dict(query),
                "grant_type": "refresh_token",
                "client_id": "lazyfs",
                "refresh_token": credentials.identity_token,
            }
            return self._wire.post(realm, form)
        if credentials:
            query.append(("account", credentials.username))
        parts = urlsplit(realm)
        asked = urlencode(parse_qsl(parts.query) + [(key, value) for key, value in query if value])
        headers = {"Authorization": credentials.basic} if credentials else {}
        return self._wire.get(parts._replace(query=asked).geturl(), headers)

    def _fail(self, reply: Reply, credentials: Credentials | None) -> None:
        try:
            reason = wiped(reason_of(reply.small(MAX_BODY)), credentials)
        except LazyfsError:
            reason = ""
        said = f"its token server answered {reply.status}" + (f": {reason}" if reason else "")
        answer = Answer(reply.status, retry_after=retry_after(reply.headers, self._wall()), reason=said)
        if reply.status in (408, 425, 429) or reply.status >= 500:
            raise Busy(answer)
        raise Denied(answer)


def wiped(text: str, credentials: Credentials | None) -> str:
    """Returns the text without the secrets and the name of the account, which a server may repeat."""
    for secret in credentials.secrets if credentials else ():
        if len(secret) > 3:
            text = text.replace(secret, "***")
    if credentials and credentials.username:
        text = re.sub(rf"(?<!\w){re.escape(credentials.username)}(?!\w)", "***", text)
    return text
