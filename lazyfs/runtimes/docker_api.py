"""The part of docker's HTTP interface that a start needs: an image from an archive, a container, its end.

HTTP requests are used instead of the command `docker`: every user of the machine can see a command's
arguments.
"""

import http.client
import json
import os
import socket
from typing import Any

from lazyfs.runtimes.protocol import RuntimeFailed

SOCKET = "/run/docker.sock"
_SECONDS = 60.0
_VERSION = "/v1.40"
"""The version of docker's interface that is used: dockerd has it from 19.03."""
_LONGEST = 8 << 20


class DockerError(RuntimeFailed):
    """The daemon cannot be reached, or refuses the request."""


class _Connection(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


class DockerApi:
    """Client of the docker daemon at a socket. Each call makes a connection of its own, with a timeout of a
    minute."""

    def __init__(self, path: str) -> None:
        self.path = path

    def version(self) -> str:
        """Returns the daemon's version. Raises DockerError."""
        return str(self._ask("GET", "/version").get("Version", "unknown"))

    def load(self, name: str, archive: bytes) -> None:
        """Makes an image of one layer from a tar archive. Raises DockerError."""
        self._ask("POST", f"/images/create?fromSrc=-&repo={name}", archive, "application/x-tar")

    def create(self, name: str, configuration: dict[str, Any]) -> None:
        """Makes a container. Raises DockerError."""
        self._ask("POST", f"/containers/create?name={name}", json.dumps(configuration).encode())

    def state(self, name: str) -> dict[str, Any]:
        """Returns the state of a container. Raises DockerError."""
        found: dict[str, Any] = self._ask("GET", f"/containers/{name}/json")["State"]
        return found

    def remove(self, name: str) -> None:
        """Ends and removes a container, and removes the image of the same name, if they exist. Raises
        DockerError."""
        for place in (f"/containers/{name}?force=1&v=1", f"/images/{name}?force=1"):
            self._ask("DELETE", place, absent_is_right=True)

    def _ask(
        self,
        method: str,
        place: str,
        body: bytes | None = None,
        kind: str = "application/json",
        *,
        absent_is_right: bool = False,
    ) -> dict[str, Any]:
        connection = _Connection(self.path)
        try:
            connection.request(method, _VERSION + place, body, {"Content-Type": kind})
            answer = connection.getresponse()
            raw = answer.read(_LONGEST)
        except PermissionError:
            raise DockerError(
                f"user {os.geteuid()} may not use {self.path}: only root and members of its group may"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise DockerError(f"no docker daemon listens at {self.path}; start dockerd") from None
        except TimeoutError:
            raise DockerError(f"the docker daemon at {self.path} did not answer in {_SECONDS:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise DockerError(
                f"the docker daemon at {self.path}: {str(error) or type(error).__name__}"
            ) from None
        finally:
            connection.close()
        if answer.status >= 400 and not (absent_is_right and answer.status == 404):
            raise DockerError(f"docker: {_message(raw)}")
        return _object(raw)


def _object(raw: bytes) -> dict[str, Any]:
    """Returns the JSON object of an answer; the last one, if the answer is a stream of objects. Raises
    DockerError if one of them has an `error`."""
    found: dict[str, Any] = {}
    for line in raw.splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if isinstance(one, dict):
            found = one
            if "error" in one:
                raise DockerError(f"docker: {one['error']}")
    return found


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["message"]).replace("\n", " ")
    except (ValueError, KeyError, TypeError):
        return raw[:200].decode(errors="replace").replace("\n", " ")
