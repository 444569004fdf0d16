"""A docker daemon for tests, with its own files, socket and containers."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lazyfs.runtimes.docker_api import DockerApi, DockerError
from tests.support.until import until


@contextmanager
def docker_daemon() -> Iterator[str]:
    """Starts dockerd for the block and yields the path of its socket. Sets LAZYFS_RUN_SETTINGS, so that
    `lazyfs run` uses this daemon."""
    work = Path(tempfile.mkdtemp(prefix="lazyfs-docker-"))
    work.chmod(0o755)
    socket = work / "docker.sock"
    settings = work / "run.toml"
    settings.write_text(f'[programs]\ndocker = "{socket}"\n')
    places = [f"--data-root={work}/data", f"--exec-root={work}/exec", f"--pidfile={work}/pid"]
    quiet = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"]
    before = os.environ.get("LAZYFS_RUN_SETTINGS")
    with (
        open(work / "log", "wb") as log,
        subprocess.Popen(
            ["/usr/sbin/dockerd", *quiet, *places, "-H", f"unix://{socket}"], stdout=log, stderr=log
        ) as daemon,
    ):
        try:
            until(lambda: _answers(str(socket)), 60)
            os.environ["LAZYFS_RUN_SETTINGS"] = str(settings)
            yield str(socket)
        finally:
            os.environ.pop("LAZYFS_RUN_SETTINGS", None)
            if before is not None:
                os.environ["LAZYFS_RUN_SETTINGS"] = before
            daemon.terminate()
            daemon.wait(60)
    for line in Path("/proc/mounts").read_bytes().split(b"\n")[:-1]:
        if (target := os.fsdecode(line.split(b" ")[1])).startswith(
            f"{work}/"
        ):  # dockerd leaves a network namespace
            subprocess.run(["umount", target], check=True)
    shutil.rmtree(work)


def _answers(socket: str) -> bool:
    try:
        DockerApi(socket).version()
    except DockerError:
        return False
    return True
