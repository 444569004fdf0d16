"""Finds the account with which to pull an image: in options, in GitLab's variables, in auth files."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from lazyfs.core.errors import AccountProblem
from lazyfs.core.oci.reference import Reference
from lazyfs.images.registry.auth_files import from_files
from lazyfs.images.registry.credentials import Credentials


class Asked(NamedTuple):
    """The command line's options for an account."""

    username: str | None = None
    password_file: str | None = None
    password_fd: int | None = None
    authfile: str | None = None


def find(reference: Reference, asked: Asked, environment: Mapping[str, str]) -> Credentials | None:
    """Returns the account for this image; None for anonymous pulls. Looks at, in this order:

    the command line; GitLab's variables, if CI_REGISTRY is this registry (deploy token, then job token); the
    auth files of podman, skopeo and docker with their credential helpers (see `auth_files`).

    Raises UsageError for a password that cannot be read, a file that cannot be parsed, a helper that fails.
    """
    if asked.username is not None:
        return given(asked)
    if asked.password_file is not None or asked.password_fd is not None:
        raise AccountProblem("a password without a name: give --username too")
    if asked.authfile is None and environment.get("CI_REGISTRY") == reference.registry:
        for user, password in (
            ("CI_DEPLOY_USER", "CI_DEPLOY_PASSWORD"),
            ("CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
        ):
            if environment.get(user) and environment.get(password):
                return Credentials(environment[user], environment[password])
    return from_files(reference, asked.authfile, environment)


def given(asked: Asked) -> Credentials:
    """Returns the account of the command line, which has to name a user. Raises UsageError if the password
    cannot be read."""
    assert asked.username is not None
    return Credentials(asked.username, _password(asked))


class LazyAccount:
    """The account for a registry's repository. It is looked for only when it is needed, so that a public
    image starts no credential helper."""

    def __init__(self, reference: Reference, asked: Asked, environment: Mapping[str, str]) -> None:
        """Finds the account at once if the command line has options for it. Raises UsageError if they cannot
        be used."""
        self._arguments = (reference, asked, environment)
        self._looked = False
        self._found: Credentials | None = None
        if any(value is not None for value in asked):
            self.find()

    @property
    def found(self) -> Credentials | None:
        """The account that `find` has found; None if `find` has not been called, or has found none."""
        return self._found

    def find(self) -> Credentials | None:
        """Returns the account, or None; looks for it only the first time. Raises UsageError as the module's
        `find` does."""
        if not self._looked:
            self._found = find(*self._arguments)
            self._looked = True
        return self._found


def _password(asked: Asked) -> str:
    try:
        if asked.password_file is not None:
            with open(asked.password_file, encoding="utf-8") as file:
                text = file.read(1 << 16)
        elif asked.password_fd is not None:
            with open(asked.password_fd, encoding="utf-8", closefd=False) as file:
                text = file.read(1 << 16)
        else:
            raise AccountProblem("--username needs --password-file FILE or --password-fd N")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        where = asked.password_file or f"descriptor {asked.password_fd}"
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else reason
        raise AccountProblem(f"password {where}: {reason}") from None
    return text.rstrip("\r\n")
