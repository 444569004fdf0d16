"""Who may pull: where user names and passwords for a registry are found. None is ever in an argument, a log
or an error."""

import base64
import binascii
import os
from typing import NamedTuple

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.reference import HUB, Reference

MOST = 4 << 20
"""Bytes of an authfile that are read."""
_HUB_KEYS = (HUB, f"index.{HUB}", f"https://index.{HUB}/v1/")


class Credentials(NamedTuple):
    """One account."""

    username: str
    password: str
    identity_token: str = ""
    """A refresh token that stands for both."""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Asked(NamedTuple):
    """What the operator said on the command line."""

    username: str | None = None
    password_file: str | None = None
    password_fd: int | None = None
    authfile: str | None = None


def find(reference: Reference, asked: Asked, environment: dict[str, str]) -> Credentials | None:
    """The account for this image, or None for anonymous pulls. Looks at, in this order:

    the command line; GitLab's variables, if CI_REGISTRY is this registry (deploy token, then job token);
    podman's auth.json (--authfile, REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR, ~/.config), where a key may be a
    repository or a namespace; Docker's config.json with its credential helpers.

    Raises UsageError for a password that cannot be read or a file that cannot be parsed.
    """
    if asked.username is not None:
        return Credentials(asked.username, _password(asked))
    if asked.password_file is not None or asked.password_fd is not None:
        raise UsageError("a password without a name: give --username too")
    if environment.get("CI_REGISTRY") == reference.registry:
        for user, password in (
            ("CI_DEPLOY_USER", "CI_DEPLOY_PASSWORD"),
            ("CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
        ):
            if environment.get(user) and environment.get(password):
                return Credentials(environment[user], environment[password])
    return _from_podman(reference, asked, environment) or _from_docker(reference)


def _password(asked: Asked) -> str:
    try:
        if asked.password_file is not None:
            with open(asked.password_file, encoding="utf-8") as file:
                text = file.read(1 << 16)
        elif asked.password_fd is not None:
            with open(asked.password_fd, encoding="utf-8", closefd=False) as file:
                text = file.read(1 << 16)
        else:
            raise UsageError("--username needs --password-file FILE or --password-fd N")
    except (OSError, UnicodeDecodeError) as error:
        where = asked.password_file or f"descriptor {asked.password_fd}"
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"password {where}: {reason}") from None
    return text.rstrip("\r\n")


class _Auth(msgspec.Struct):
    auth: str = ""
    identitytoken: str = ""


class _AuthFile(msgspec.Struct):
    auths: dict[str, _Auth] = {}


def _from_podman(reference: Reference, asked: Asked, environment: dict[str, str]) -> Credentials | None:
    chosen = asked.authfile or environment.get("REGISTRY_AUTH_FILE")
    home = environment.get("HOME", "/")
    places = [chosen] if chosen else []
    if not chosen:
        if runtime := environment.get("XDG_RUNTIME_DIR"):
            places.append(os.path.join(runtime, "containers/auth.json"))
        config = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        places.append(os.path.join(config, "containers/auth.json"))
    for path in places:
        try:
            with open(path, "rb") as file:
                auths = msgspec.json.decode(file.read(MOST), type=_AuthFile).auths
        except FileNotFoundError:
            if chosen:
                raise UsageError(f"authfile {path} does not exist") from None
            continue
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"authfile {path} cannot be read: {error}") from None
        for key in _keys(reference):
            if key in auths:
                return _decode(auths[key], path)
    return None


def _keys(reference: Reference) -> list[str]:
    """The longest namespace first, as podman looks them up."""
    parts = reference.repository.split("/")
    keys = ["/".join([reference.registry, *parts[:count]]) for count in range(len(parts), -1, -1)]
    return keys + (list(_HUB_KEYS) if reference.registry == HUB else [])


def _decode(auth: _Auth, path: str) -> Credentials:
    try:
        username, _, password = base64.b64decode(auth.auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise UsageError(f"authfile {path}: an entry's auth is not base64 of name:password") from None
    return Credentials(username, password, auth.identitytoken)


def _from_docker(reference: Reference) -> Credentials | None:
    import docker.auth  # 100 ms, which other commands need not wait for
    import docker.errors

    try:
        found = docker.auth.load_config().resolve_authconfig(reference.registry)
    except (docker.errors.DockerException, ValueError, RecursionError) as error:
        raise UsageError(f"Docker's credentials for {reference.registry}: {error}") from None
    if not found:
        return None
    token = found.get("IdentityToken") or found.get("identitytoken") or ""
    username = found.get("Username") or found.get("username") or ""
    if not (username or token):
        return None
    return Credentials(username, found.get("Password") or found.get("password") or "", token)
