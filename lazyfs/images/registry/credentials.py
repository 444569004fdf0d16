"""One account at a registry. No password is ever in an argument, a log or an error."""

import base64
from typing import NamedTuple


class Credentials(NamedTuple):
    """One account."""

    username: str
    password: str
    identity_token: str = ""
    """A refresh token in place of user and password, shown to the token server."""
    registry_token: str = ""
    """A bearer token for the registry itself."""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header with user name and password."""
        pair = f"{self.username}:{self.password}".encode("utf-8", "surrogateescape")
        return "Basic " + base64.b64encode(pair).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must not appear in any message."""
        basic = self.basic.removeprefix("Basic ")
        return tuple(filter(None, (self.password, self.identity_token, self.registry_token, basic)))
