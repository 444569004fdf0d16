"""Credential helpers: programs `docker-credential-NAME` that keep accounts or get them from a cloud.

Protocol: docker-credential-helpers' README. `get` reads the server from its input and writes JSON.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

import msgspec

from lazyfs.core.errors import AccountProblem
from lazyfs.core.printable import printable
from lazyfs.images.registry.credentials import Credentials

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_ABSENT = ("credentials not found", "no credentials server url", "no credentials username")
"""Messages by which a helper says that it has no account; it then exits with a code other than 0."""
TOKEN_USER = "<token>"  # noqa: S105 - the name that stands for an identity token
HELPER_DEADLINE = 60.0
"""Seconds for a helper, which may ask a cloud's servers."""
_MAX_ANSWER = 1 << 20


def ask_helper(
    name: str, server: str, named_by: str, environment: Mapping[str, str], deadline: float = HELPER_DEADLINE
) -> Credentials | None:
    """Returns the account that the helper keeps for this server; None if it keeps none.

    `named_by`: the file that names the helper. Raises UsageError if the helper is missing, fails, writes
    invalid output or takes longer than `deadline` seconds.
    """
    if not _NAME.fullmatch(name):
        raise AccountProblem(f"authfile {named_by}: {name!r} is not the name of a credential helper")
    program = f"docker-credential-{name}"
    code, output, complaint = _run(program, server, named_by, environment, deadline)
    if code != 0:
        said = output.decode("utf-8", "replace").strip() or complaint.decode("utf-8", "replace").strip()
        if any(text in said.lower() for text in _ABSENT):
            return None
        raise AccountProblem(
            f"{program} (named by {named_by}) fails with {code}: {printable(said) or 'no reason'}"
        )
    return _read(output, f"{program} (named by {named_by})")


def _run(
    program: str, server: str, named_by: str, environment: Mapping[str, str], deadline: float
) -> tuple[int, bytes, bytes]:
    try:
        process = subprocess.Popen(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,  # so that the programs it starts end with it
        )
    except FileNotFoundError:
        raise AccountProblem(f"{program} (named by {named_by}) is not installed, or not in PATH") from None
    except OSError as error:
        raise AccountProblem(f"{program} (named by {named_by}): {error.strerror}") from None
    with process:
        try:
            output, complaint = process.communicate(server.encode() + b"\n", timeout=deadline)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AccountProblem(
                f"{program} (named by {named_by}) did not answer in {deadline:.0f} s"
            ) from None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output, complaint


def _read(output: bytes, program: str) -> Credentials | None:
    try:
        document: Any = msgspec.json.decode(output[:_MAX_ANSWER])
        username, secret = document.get("Username") or "", document.get("Secret") or ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError):
        raise AccountProblem(
            f"{program} answered something else than JSON with Username and Secret"
        ) from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise AccountProblem(f"{program} answered with a Username or Secret that is not a string")
    if not secret:
        return None
    if username == TOKEN_USER:
        return Credentials("", "", identity_token=secret)
    return Credentials(username, secret)
