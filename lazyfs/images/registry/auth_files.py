"""The files in which docker, podman, skopeo, buildah, kaniko and kubectl keep accounts, in all their forms.

`{"auths": {KEY: {"auth", "identitytoken", "registrytoken", "username", "password"}},
"credHelpers": {KEY: NAME}, "credsStore": NAME}`. KEY is a registry, a namespace or a repository below it, or
an address of the registry; docker.io has keys of its own. `~/.dockercfg` holds `auths` alone.
"""

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from lazyfs.core.errors import AccountProblem
from lazyfs.core.oci.reference import HUB, HUB_HOSTS, Reference
from lazyfs.images.registry.credential_helpers import ask_helper
from lazyfs.images.registry.credentials import Credentials

MAX_FILE = 4 << 20
HUB_KEY = f"https://index.{HUB}/v1/"
"""docker's name for docker.io in its files and to its helpers."""


def from_files(
    reference: Reference, authfile: str | None, environment: Mapping[str, str]
) -> Credentials | None:
    """Returns the first account for this image in the auth files; None if no file has one.

    A file that was named (--authfile, REGISTRY_AUTH_FILE) is the only one read. Raises UsageError.
    """
    chosen = authfile or environment.get("REGISTRY_AUTH_FILE")
    if chosen:
        if not os.path.exists(chosen):
            raise AccountProblem(f"authfile {chosen} does not exist")
        return _from_file(reference, chosen, environment)
    for path in _places(environment):
        if os.path.exists(path) and (found := _from_file(reference, path, environment)):
            return found
    return None


def _places(environment: Mapping[str, str]) -> Iterator[str]:
    """Yields the paths of the auth files in the order of podman and skopeo; docker's own files come last."""
    home = environment.get("HOME", "/")
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield os.path.join(runtime, "containers/auth.json")
    else:
        yield f"/run/containers/{os.getuid()}/auth.json"
    yield os.path.join(
        environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "containers/auth.json"
    )
    yield os.path.join(environment.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json")
    yield os.path.join(home, ".dockercfg")


def _from_file(reference: Reference, path: str, environment: Mapping[str, str]) -> Credentials | None:
    document = _read(path)
    legacy = path.endswith(".dockercfg") and "auths" not in document
    auths = _object(document if legacy else document.get("auths"), path, "auths")
    helpers = _object(document.get("credHelpers"), path, "credHelpers")
    key = _key(reference, helpers)
    helper = helpers.get(key) if key else document.get("credsStore")
    if helper:
        if not isinstance(helper, str):
            raise AccountProblem(
                f"authfile {path}: the name of a credential helper is {helper!r}, not a string"
            )
        for name in _helper_names(reference, key):
            if found := ask_helper(helper, name, path, environment):
                return found
    key = _key(reference, auths)
    return _account(_object(auths[key], path, key), path, key) if key else None


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:  # may be a pipe: --authfile <(...)
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise AccountProblem(f"authfile {path} has over {MAX_FILE} bytes")
        if not data.strip():
            return {}
        document = msgspec.json.decode(data)
    except OSError as error:
        raise AccountProblem(f"authfile {path} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AccountProblem(f"authfile {path} cannot be read: not JSON: {error}") from None
    return _object(document, path, "it")


def _object(value: Any, path: str, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise AccountProblem(f"authfile {path}: {what} is not a JSON object")
    return value


def _key(reference: Reference, keys: Mapping[str, Any]) -> str | None:
    """Returns the best matching key: one with the longest namespace first, then one for the registry under
    any of its names; None if no key matches."""
    hosts = HUB_HOSTS if reference.registry == HUB else (reference.registry,)
    parts = reference.repository.split("/")
    for count in range(len(parts), -1, -1):
        for host in hosts:
            key = "/".join([host, *parts[:count]])
            if keys.get(key):
                return key
    addresses = {key: _host(key) for key in keys if keys[key]}
    return next((key for key, host in addresses.items() if host in hosts), None)


def _host(key: str) -> str | None:
    """Returns the registry of a key that is an address (`https://HOST/v1/`, `HOST/v2`); None for a namespace,
    because its account is not valid for the whole registry."""
    scheme, separator, rest = key.partition("://")
    if not separator:
        rest = scheme
    host, _, path = rest.partition("/")
    if separator or path.strip("/") in ("", "v1", "v2"):
        return host
    return None


def _helper_names(reference: Reference, key: str | None) -> tuple[str, ...]:
    """Returns the server names for which to ask the helper, one after another."""
    if reference.registry == HUB:
        return HUB_KEY, HUB, f"index.{HUB}"
    return tuple(dict.fromkeys(filter(None, (reference.registry, key))))


def _account(entry: dict[str, Any], path: str, key: str) -> Credentials | None:
    fields = {}
    for name in ("auth", "identitytoken", "registrytoken", "username", "password"):
        value = entry.get(name) or ""
        if not isinstance(value, str):
            raise AccountProblem(f"authfile {path}: {name} of {key} is not a string")
        fields[name] = value
    username, password = fields["username"], fields["password"]
    if fields["auth"]:
        try:
            pair = base64.b64decode("".join(fields["auth"].split()), validate=True)
        except (binascii.Error, ValueError):
            raise AccountProblem(f"authfile {path}: auth of {key} is not base64 of name:password") from None
        username, colon, password = pair.decode("utf-8", "surrogateescape").partition(":")
        if not colon:
            raise AccountProblem(f"authfile {path}: auth of {key} is not base64 of name:password")
        password = password.rstrip("\0")  # docker's oldest files are padded
    identity = fields["identitytoken"]
    if username == "<token>" and not identity:
        username, password, identity = "", "", password
    if not (username or password or identity or fields["registrytoken"]):
        return None
    return Credentials(username, password, identity, fields["registrytoken"])
