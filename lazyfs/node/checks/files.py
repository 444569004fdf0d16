"""Checks the files that settings name: certificates, keys, and those with passwords in them."""

import os
import stat
import time
from collections.abc import Iterator

import msgspec
from cryptography import x509

from lazyfs.core.chain.notation import without_secrets
from lazyfs.core.errors import UsageError
from lazyfs.core.moments import minute
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings
from lazyfs.transport.tls import Tls
from lazyfs.transport.tls_files import TlsFiles

SOON = 7 * 86_400.0


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about the files that one mount's settings name."""

    unusable: list[str] = []
    """The reasons why certificates or keys cannot be used."""
    now: float = 0.0
    expires: dict[str, float] = {}
    """Client certificate -> its expiry, in seconds since 1970."""
    open_secrets: dict[str, str] = {}
    """The files with a password or key that other users may read, each with the kind of secret in it."""


def gather(found: Surroundings) -> list[FileFacts]:
    return [
        _look(wanted.settings, [one.place for one in wanted.origins.values()], _through(wanted.origins))
        for wanted in found.wanted
    ]


def judge(facts: list[FileFacts]) -> Iterator[Finding]:
    for one in facts:
        for why in one.unusable:
            yield Finding(Level.ERROR, why, "give another file, or mend this one; docs/chain.md#https")
        for path, expires in one.expires.items():
            left = expires - one.now
            when = minute(expires)
            if left <= 0:
                yield Finding(
                    Level.ERROR, f"the certificate {path} expired on {when}", "renew it, then mount again"
                )
            elif left < SOON:
                yield Finding(
                    Level.WARNING, f"the certificate {path} expires on {when}", "renew it, then mount again"
                )
        for path, what in one.open_secrets.items():
            yield Finding(Level.WARNING, f"{path} holds {what} and others may read it", f"chmod 0600 {path}")


def _look(settings: Settings, places: list[str], through: list[str]) -> FileFacts:
    own = RepositorySource(
        url=settings.source,
        proxy=settings.proxy,
        ca=settings.ca,
        client_cert=settings.client_cert,
        client_key=settings.client_key,
    )
    sources = [own, *settings.repositories.values()]
    unusable, expires, secrets = [], {}, {}
    for files in dict.fromkeys(TlsFiles(one.ca, one.client_cert, one.client_key) for one in sources):
        try:
            if files:
                Tls(files)
        except UsageError as error:
            unusable.append(str(error))
            continue
        if files.client_cert:
            secrets[files.client_key or files.client_cert] = "a private key"
            expires[files.client_cert] = _expiry(files.client_cert)
    secrets |= dict.fromkeys(through, "a URL with its password")
    if any(without_secrets(text) != text for one in sources for text in (one.url, one.proxy or "")):
        config = {place.rpartition(":")[0] for place in places if place.startswith("/")}
        secrets |= {path: "a URL with its password" for path in config if _names_account(path)}
    return FileFacts(
        unusable=unusable,
        now=time.time(),
        expires=expires,
        open_secrets={path: what for path, what in secrets.items() if _others_read(path)},
    )


def _through(origins: dict[str, Origin]) -> list[str]:
    return [one.through for one in origins.values() if one.through]


def _expiry(path: str) -> float:
    with open(path, "rb") as file:
        found = x509.load_pem_x509_certificates(file.read())
    return min(one.not_valid_after_utc.timestamp() for one in found)


def _names_account(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 20)
    except OSError:
        return False
    return without_secrets(text) != text


def _others_read(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_IROTH)
