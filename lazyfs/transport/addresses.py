"""The servers that an operator's description of a store names. Importing this module imports no client
library."""

import os
from typing import NamedTuple

from lazyfs.core.chain.notation import DIRECT, parse_origins, parse_proxies, without_secrets
from lazyfs.core.errors import UsageError


class Addresses(NamedTuple):
    """The proxies and origins of one repository."""

    proxies: tuple[tuple[str, ...], ...]
    """Groups of proxy URLs; a group may also contain `DIRECT`."""
    origins: tuple[str, ...]


def addresses_of(store: str, proxy: str | None, repository: str | None) -> Addresses | None:
    """Returns the servers of a store; None for a store in a directory.

    `store`: a directory, or `http://s1/@repo@;http://s2/@repo@` where @repo@ stands for `repository`.
    `proxy`: `http://p1:3128|http://p2:3128;DIRECT`; None means DIRECT, no proxy. Raises UsageError.
    """
    if "://" not in store:
        if proxy:
            raise UsageError(
                f"--proxy {without_secrets(proxy)}: the store {store} is a directory and needs none; "
                f"leave it out"
            )
        if not os.path.isdir(store):
            raise UsageError(f"store {store}: no such directory")
        return None
    if not store.startswith(("http://", "https://")):
        raise UsageError(
            f"store {without_secrets(store)}: use a directory or a URL that starts with http:// or https://"
        )
    return Addresses(parse_proxies(proxy or DIRECT), parse_origins(store, repository))
