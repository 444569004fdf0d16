"""Credentials and addresses, found as AWS's own tools find them: in the environment, then in the files of an
AWS profile.

Credentials that a cloud gives to a machine or container (web identity, container and instance endpoints) are
left to obstore. Nothing here is ever put into a message.
"""

import configparser
import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from lazyfs.core.errors import UsageError

_CLOUD = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
PROCESS_SECONDS = 60
"""Timeout in seconds for an AWS profile's credential_process, which may ask a token service."""


class Credentials(NamedTuple):
    """The keys with which requests are signed. The repr shows no secret."""

    access_key: str
    secret: str
    token: str | None
    expires: datetime | None

    def __repr__(self) -> str:
        return "Credentials(...)"


class Surroundings(NamedTuple):
    """The address, the region and the CA file of the S3 service, from the environment or the AWS profile."""

    endpoint: str | None
    """The server's URL; None for AWS's own."""
    region: str
    ca_bundle: str | None


class Profile:
    """The AWS profile that the environment names. Each call reads the profile's files again, because other
    programs renew the credentials in them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._named = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE")
        home = environment.get("HOME") or os.path.expanduser("~")
        self._secrets = environment.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials"
        self._config = environment.get("AWS_CONFIG_FILE") or f"{home}/.aws/config"

    def surroundings(self) -> Surroundings:
        """Returns the S3 service's address and region. Raises UsageError for a file that cannot be parsed."""
        ask, fields = self._environment.get, self._fields()
        return Surroundings(
            ask("AWS_ENDPOINT_URL_S3") or ask("AWS_ENDPOINT_URL") or fields.get("endpoint_url"),
            ask("AWS_REGION") or ask("AWS_DEFAULT_REGION") or fields.get("region") or "us-east-1",
            ask("AWS_CA_BUNDLE") or fields.get("ca_bundle"),
        )

    def unsigned(self) -> bool:
        """Returns True if requests are to go unsigned, as a public bucket takes them."""
        asked = self._environment.get("AWS_SKIP_SIGNATURE", "").lower()
        return asked in ("true", "1", "yes", "on")

    def credentials(self) -> Credentials | None:
        """Returns the credentials of the environment, or those of the profile; None if neither has any, so
        that obstore has to ask the cloud for them.

        Raises UsageError for a profile that is not there, or one that only AWS's own tools can follow.
        """
        ask = self._environment.get
        key, secret = ask("AWS_ACCESS_KEY_ID"), ask("AWS_SECRET_ACCESS_KEY")
        if key and secret and not self._named:
            return Credentials(key, secret, ask("AWS_SESSION_TOKEN"), None)
        fields = self._fields()
        key, secret = fields.get("aws_access_key_id"), fields.get("aws_secret_access_key")
        if key and secret:
            return Credentials(key, secret, fields.get("aws_session_token"), None)
        if "credential_process" in fields:
            return self._from_process(fields["credential_process"])
        if any(ask(name) for name in _CLOUD):
            return None
        for field in ("role_arn", "sso_session", "sso_start_url"):
            if field in fields:
                raise UsageError(
                    f"profile {self._named or 'default'} of {self._config} has {field}, which lazyfs does "
                    "not follow: give it credential_process = aws configure export-credentials --profile NAME"
                )
        return None

    def _fields(self) -> dict[str, str]:
        name = self._named or "default"
        config = _read(self._config)
        section = "default" if name == "default" else f"profile {name}"
        fields = {**config.get(section, {}), **_read(self._secrets).get(name, {})}
        if self._named and not fields:
            raise UsageError(
                f"AWS_PROFILE={name}: neither {self._secrets} nor {self._config} has this profile"
            )
        return fields

    def _from_process(self, command: str) -> Credentials:
        where = f"credential_process of profile {self._named or 'default'}"
        try:
            done = subprocess.run(
                shlex.split(command),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                timeout=PROCESS_SECONDS,
                check=True,
            )
            found = json.loads(done.stdout)
            expires = found.get("Expiration")
            return Credentials(
                found["AccessKeyId"],
                found["SecretAccessKey"],
                found.get("SessionToken"),
                datetime.fromisoformat(expires) if expires else None,
            )
        except subprocess.CalledProcessError as error:
            raise UsageError(f"{where} exited with {error.returncode}") from None
        except subprocess.TimeoutExpired:
            raise UsageError(f"{where} took longer than {PROCESS_SECONDS} s") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{where} gave no credentials in AWS's form (version 1, JSON)") from None


def _read(path: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):
        raise UsageError(f"{path} is no file of profiles: [NAME] and lines of name = value") from None
    return {section: dict(parser.items(section)) for section in parser.sections()}
