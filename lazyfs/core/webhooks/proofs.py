"""The proof that the sender of a webhook knows the secret, a text that it shares with the receiver. Every
comparison takes constant time.

| kind | proof |
|---|---|
| docker, harbor | `Authorization` is the secret, or `Bearer` and the secret |
| gitlab | the same, or `X-Gitlab-Token` is the secret, or `webhook-signature` is that of Standard Webhooks |
| github | `X-Hub-Signature-256` is the HMAC of the body |
"""

import base64
import binascii
import hmac
from collections.abc import Callable
from hashlib import sha256

DOCKER, HARBOR, GITLAB, GITHUB = "docker", "harbor", "gitlab", "github"
KINDS = (DOCKER, HARBOR, GITLAB, GITHUB)
CLOCKS = 300
"""The largest number of seconds between the time in a signed webhook and this machine's time."""
_PREFIX = "whsec_"
MOST_SIGNATURES = 8
"""The largest number of signatures of one webhook that are checked: senders that change their key give
two."""


Fields = Callable[[str], str]
"""A function that returns the value of the header field with this name, in any case of letters; empty if
there is none."""


def proven(kind: str, secret: str, field: Fields, body: bytes, now: float) -> bool:
    """Returns True if the sender knows the secret. `kind`: that of the sender, as in the table. `now`:
    seconds since 1970. An empty secret proves nothing."""
    if not secret:
        return False
    if kind == GITHUB:
        return _equal(field("X-Hub-Signature-256"), signature(secret, body))
    if _bears(field("Authorization"), secret):
        return True
    if kind == GITLAB:
        token = _equal(field("X-Gitlab-Token"), secret)
        return token or _signed(secret, field, body, now)
    return False


def signature(secret: str, body: bytes) -> str:
    """Returns the signature of a body in the form of GitHub's: `sha256=` and the HMAC in hex."""
    return f"sha256={hmac.new(secret.encode(), body, sha256).hexdigest()}"


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


def _bears(value: str, secret: str) -> bool:
    return _equal(value, secret) | _equal(value, f"Bearer {secret}")


def _signed(secret: str, field: Fields, body: bytes, now: float) -> bool:
    """Returns True if one of the webhook's signatures is valid by Standard Webhooks: the HMAC of
    `id.time.body` in base64."""
    identity, stated = field("webhook-id"), field("webhook-timestamp")
    if not (stated.isascii() and stated.isdigit()) or len(stated) > 12 or abs(int(stated) - now) > CLOCKS:
        return False
    key = secret.encode()
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            return False
    text = f"{identity}.{stated}.".encode(errors="replace") + body
    right = "v1," + base64.b64encode(hmac.new(key, text, sha256).digest()).decode()
    found = field("webhook-signature").split(" ", MOST_SIGNATURES)[:MOST_SIGNATURES]
    return any(_equal(one, right) for one in found)
