"""A real docker-registry with htpasswd accounts, and the blob reads that its log shows."""

import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ports import free_port
from lazyfs.images.registry.credentials import Asked

USER, PASSWORD = "reader", "right horse"
_BLOB = re.compile(r'"GET /v2/\S+/blobs/(sha256:[0-9a-f]{64}) HTTP/1.1" 20[06] (\d+)')


class RealRegistry:
    """A docker-registry on a port of its own."""

    def __init__(self, host: str, log: Path) -> None:
        self.host = host
        self._log = log
        self._seen = 0

    password = PASSWORD

    @staticmethod
    def asked(password: Path) -> Asked:
        """Returns the registry's account, with the password read from this file."""
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

    def blobs_read(self) -> dict[str, int]:
        """Returns the bytes sent of each blob, by digest, since the last call."""
        text = self._log.read_text()
        fresh, self._seen = text[self._seen :], len(text)
        read: dict[str, int] = {}
        for digest, size in _BLOB.findall(fresh):
            read[digest] = read.get(digest, 0) + int(size)
        return read


@contextmanager
def real_registry(directory: Path, *, schema1: bool = False) -> Iterator[RealRegistry]:
    """Runs a registry that keeps its blobs under `directory`; with `schema1` it accepts manifests of that
    form."""
    directory.mkdir(parents=True, exist_ok=True)
    accounts = directory / "htpasswd"
    subprocess.run(["htpasswd", "-Bbc", accounts, USER, PASSWORD], check=True, capture_output=True)
    port = free_port()
    (directory / "config.yml").write_text(
        f"""version: 0.1
log: {{accesslog: {{disabled: false}}, level: error}}
storage: {{filesystem: {{rootdirectory: {directory}/blobs}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: test, path: {accounts}}}}}
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
