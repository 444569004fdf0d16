"""A real docker-registry with htpasswd accounts, and the blob reads found in its log."""

import base64
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ports import free_port
from lazyfs.images.registry.accounts import Asked
from tests.support.oci_images import Built

USER, PASSWORD = "reader", "right horse"
_REQUEST = re.compile(r'"(GET|HEAD) (/v2/\S+) HTTP/1.1" (\d{3})')
_BLOB = re.compile(r'"GET /v2/\S+/blobs/(sha256:[0-9a-f]{64}) HTTP/1.1" 20[06] (\d+)')


class RealRegistry:
    """A docker-registry on a port of its own."""

    def __init__(self, host: str, log: Path) -> None:
        self.host = host
        self._log = log
        self._seen = 0
        self._put: set[tuple[str, str]] = set()

    password = PASSWORD

    @staticmethod
    def asked(password: Path) -> Asked:
        """Returns the registry's account in the form of the command line's options: the name, and a file with
        the password."""
        return Asked(USER, str(password))

    def push(self, layout: Path, tag: str, target: str, *options: str) -> None:
        """Copies a tag of an OCI layout to the registry, with skopeo."""
        subprocess.run(
            [
                "skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}",
                *options, f"oci:{layout}:{tag}", f"docker://{self.host}/{target}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def put(self, image: Built, repository: str, tag: str) -> str:
        """Uploads an image under a tag; returns the manifest's digest."""
        for digest, data in image.blobs.items():
            if digest != image.manifest["digest"] and (repository, digest) not in self._put:
                self._put_blob(repository, digest, data)
                self._put.add((repository, digest))
        manifest = image.blobs[image.manifest["digest"]]
        self.put_manifest(repository, tag, image.manifest["mediaType"], manifest)
        return str(image.manifest["digest"])

    def put_manifest(self, repository: str, name: str, kind: str, data: bytes) -> None:
        """Uploads a manifest or index under a tag or digest."""
        self._call("PUT", f"/v2/{repository}/manifests/{name}", data, {"Content-Type": kind})

    def delete(self, repository: str, digest: str) -> None:
        """Deletes a manifest and all its tags."""
        self._call("DELETE", f"/v2/{repository}/manifests/{digest}")

    def _put_blob(self, repository: str, digest: str, data: bytes) -> None:
        place = self._call("POST", f"/v2/{repository}/blobs/uploads/", b"")
        join = "&" if "?" in place else "?"
        kind = {"Content-Type": "application/octet-stream"}
        self._call("PUT", f"{place}{join}digest={digest}", data, kind)

    def _call(
        self, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> str:
        """Makes a request with the registry's account; returns the Location of the answer."""
        url = path if path.startswith("http") else f"http://{self.host}{path}"
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        sent = {"Authorization": f"Basic {pair}", **(headers or {})}
        with urllib.request.urlopen(
            urllib.request.Request(url, data=data, method=method, headers=sent), timeout=30
        ) as answer:
            return str(answer.headers.get("Location", ""))

    def requests(self) -> list[str]:
        """Returns the GET and HEAD requests since the last call, as `GET /v2/... 200`."""
        text = self._log.read_text()
        fresh, self._seen = text[self._seen :], len(text)
        return [" ".join(found) for found in _REQUEST.findall(fresh)]

    def warm(self) -> None:
        """Reads all blobs from the registry's disk, so that they are in the page cache."""
        for blob in self._log.parent.glob("blobs/docker/registry/v2/blobs/*/*/*/data"):
            with blob.open("rb") as file:
                while file.read(1 << 20):
                    pass

    def blobs_read(self) -> dict[str, int]:
        """Returns digest -> bytes sent of each blob since the last call."""
        text = self._log.read_text()
        fresh, self._seen = text[self._seen :], len(text)
        read: dict[str, int] = {}
        for digest, size in _BLOB.findall(fresh):
            read[digest] = read.get(digest, 0) + int(size)
        return read


@contextmanager
def real_registry(
    directory: Path,
    *,
    schema1: bool = False,
    accounts_needed: bool = True,
    notified: tuple[str, str] | None = None,
) -> Iterator[RealRegistry]:
    """Runs a registry that keeps its blobs under `directory`. With `schema1` it accepts manifests of schema
    1. `notified` is the address to which it reports pushes, and the secret that it sends along."""
    directory.mkdir(parents=True, exist_ok=True)
    accounts = directory / "htpasswd"
    subprocess.run(["htpasswd", "-Bbc", accounts, USER, PASSWORD], check=True, capture_output=True)
    port = free_port()
    (directory / "config.yml").write_text(
        f"""version: 0.1
log: {{accesslog: {{disabled: false}}, level: error}}
storage: {{filesystem: {{rootdirectory: {directory}/blobs}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
{f"auth: {{htpasswd: {{realm: test, path: {accounts}}}}}" if accounts_needed else ""}
{_notifications(*notified) if notified else ""}
compatibility: {{schema1: {{enabled: {str(schema1).lower()}}}}}
"""
    )
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/v2/", process)
        yield RealRegistry(f"127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _notifications(url: str, secret: str) -> str:
    return (
        f'notifications: {{endpoints: [{{name: lazyfs, url: "{url}", '
        f'headers: {{Authorization: ["Bearer {secret}"]}}, '
        "timeout: 5s, threshold: 3, backoff: 100ms}]}"
    )


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, "docker-registry has ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return  # 401: it is there
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{url} did not answer")
